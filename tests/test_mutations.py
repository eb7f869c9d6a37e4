"""Damaged files: whatever is done to a `.dnn` text, checking it ends well.

Every mutation of a correct file is either a correct file or gives diagnostics that each point at a
place, and within two seconds. Seeds are fixed, so a failure repeats.
"""

from __future__ import annotations

import gc
import random
import re
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

import dnnc
from dnnc.std import library_sources
from dnnc.syntax.tokens import RESERVED
from tests.test_docs import PAGES, snippets

ROOT = Path(__file__).resolve().parents[1]
#: Paths in the texts are relative to the examples, so that their data are found.
NAME = str(ROOT / "examples" / "x.dnn")
#: Seconds of processor time that checking one file may take.
LIMIT = 2.0

TOKEN = re.compile(r'#[^\n]*|"[^"\n]*"|[A-Za-z_]\w*|\d[\w.]*|->|[<>=!*/.]=?|\s+|.')
WORD = re.compile(r"[A-Za-z_]\w*")
LARGE = re.compile(r"\b(8_000|256|128|64)\b")
NUMBERS = [
    "0", "-1", "1", "2", "3", "7", "0.5", "-0.0", "1e-30", "1e308", "5", "100000", "2147483648",
    "1" + "0" * 18, "1" + "0" * 30, "infinity", "none", "[1, 2]", '"x"',
]  # fmt: skip
WORDS = WORD.findall(
    """
    in out param state scan carry emit if then else repeat for model block fn optimizer train data
    as along require return true false not and or batch dense conv relu attention residual concat
    embedding batch_norm lstm flatten mean sum reshape transpose split gather join size shape rank
    full iota argmax tensor zeros orthogonal cosine adam accuracy weights parameters step steps
    training branches none pi f64 i32
    """
)
OPERATORS = ["+", "-", "*", "/", "//", "%", "@", "**", "==", "<", ">=", "and", "->"]
SIGNS = [
    *"(){}[]=+-*/%@.,:|<>",
    "->",
    "==",
    "<=",
    "**",
    "//",
    "..",
    "...",
    "\n",
    '"',
    "#",
    "\0",
    "é",
]

#: Uses of the library that the examples lack.
LIBRARY = """
model Image(k = 3) {
    in  x: [batch, 4, 8, 8]
    out y: [batch, 6, 8, 8]
    out z: [batch, 5]
    a = x -> conv(6, k, dilation = 2, groups = 2) -> prelu -> depthwise(3)
    y = a -> concat(axis = channels_of(1)) { conv(3, 1) | conv(1, [1, 3]) -> conv(3) as deep }
    z = y -> avg_pool(2, padding = "same") -> max_pool([2, 1]) -> global_max_pool -> dense(5)
}
fn channels_of(n) = n

model Tagger(dim = 8) {
    in  tokens: i32[batch, time <= 12]
    in  more:   [batch, time, 3]
    out scores: [batch, time, 4]
    e = tokens -> embedding(20, dim) as table -> positions
    h = join([e -> gru(dim), more -> rnn(3, activation = relu)], axis = -1)
    scan a, b in h, more along time {
        carry s: [batch, 3] = 0
        if training { s = s + b } else { s = s + b * 2 }
        emit g = s * a[0][0]
    }
    l = (h -> last) -> dense(4, start = normal(0.1), drop = 0.1)
    scores = (g -> layer_norm -> mlp(4, units = 4)) + insert_axis(l, 1)
}

block normed(rate = 0.1) {
    in  x: [batch, width, ...]
    out y: [batch, width, ...]
    require size(x, 1) == width and rank(x) >= 2, "got {width}"
    state peak: [width] = ones
    param gain: [width] = uniform(0.5, 1.5)
    over = [0]
    for i in 2 .. rank(x) { over = over + [i] }
    peak = if training then maximum(peak, max(abs(x), over)) else peak
    y = x / reshape(peak, [1, width] + ones_like(rank(x) - 2)) * gain[0] -> dropout(rate)
}

model Uses(n = 2) {
    in  x: [batch, 2 * pairs, 5]
    out y: [batch, pairs, 10]
    y = reshape(x, [size(x, 0), pairs, 10]) -> normed -> normed(0.2) as second
    repeat n { y2 = y * 2 }
}
"""


@lru_cache(maxsize=1)
def texts() -> tuple[str, ...]:
    """Files to be damaged: examples, snippets of tests and documentation, and the library itself
    as a user's own definitions.
    """
    paths = [*(ROOT / "examples").glob("*.dnn"), *(ROOT / "tests/syntax/snippets").glob("*.dnn")]
    found = [path.read_text(encoding="utf-8") for path in sorted(paths)]
    found += [s.text for page in PAGES for s in snippets(page) if s.language == "dnn"]
    found += [source.text + LIBRARY for source in library_sources()]
    # A name in another's place should not make hundreds of layers: that is correct, but slow.
    return tuple(LARGE.sub("20", text) for text in (*found, LIBRARY))


def mutated(text: str, draw: random.Random) -> str:
    """The text after one to three random damages."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        damage = draw.choice((by_character, by_line, by_token, *(by_meaning,) * 5))
        text = damage(text, draw) or "x"
    return text


def by_character(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text) + 1)
    end = min(len(text), at + draw.choice((0, 1, 1, 5, 40)))
    match draw.randrange(3):
        case 0:
            return text[:at] + text[end:]
        case 1:
            return text[:at] + draw.choice((*SIGNS, draw.choice("abxyz019 "))) + text[end:]
        case _:
            return text[:end] + text[at:]


def by_line(text: str, draw: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.randrange(3):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case _:
            lines[at], lines[other] = lines[other], lines[at]
    return "".join(lines)


def by_token(text: str, draw: random.Random) -> str:
    """Delete, double, swap, insert: most results are not even syntax."""
    tokens = TOKEN.findall(text)
    places = [i for i, t in enumerate(tokens) if not t.isspace() and not t.startswith("#")]
    at, other = draw.choice(places), draw.choice(places)
    match draw.randrange(5):
        case 0:
            del tokens[at]
        case 1:
            tokens.insert(at, f"{tokens[at]} ")
        case 2:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        case 3:
            tokens[at] = draw.choice(SIGNS)
        case _:
            tokens.insert(at, f"{draw.choice((*WORDS, *SIGNS, *NUMBERS))} ")
    return "".join(tokens)


def by_meaning(text: str, draw: random.Random) -> str:
    """Another name for a name, another number for a number: most results are syntax."""
    tokens = TOKEN.findall(text)
    numbers = [i for i, t in enumerate(tokens) if t[0].isdigit()]
    words = [i for i, t in enumerate(tokens) if WORD.fullmatch(t) and t not in RESERVED]
    signs = [i for i, t in enumerate(tokens) if t in OPERATORS]
    match draw.randrange(8):
        case 0 | 1 | 2 if numbers:
            tokens[draw.choice(numbers)] = draw.choice(NUMBERS)
        case 3 if signs:
            tokens[draw.choice(signs)] = draw.choice(OPERATORS)
        case 4 if words:
            tokens[draw.choice(words)] = draw.choice(NUMBERS)
        case 5 if words:
            tokens[draw.choice(words)] = draw.choice(WORDS)
        case _ if words:
            tokens[draw.choice(words)] = tokens[draw.choice(words)]
        case _:
            tokens.insert(draw.randrange(len(tokens)), " x ")
    return "".join(tokens)


def problem(text: str) -> str | None:
    """What is wrong with the way in which checking ends, or None."""
    start = time.process_time()
    try:
        dnnc.parse(text, name=NAME)
    except dnnc.DnnError as error:
        for diagnostic in error.diagnostics:
            diagnostic.render()
            if diagnostic.span is None:
                return f"a diagnostic without a place: {diagnostic.render()}"
        if not error.diagnostics:
            return "an error without a diagnostic"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    took = time.process_time() - start
    return f"it took {took:.1f} s" if took > LIMIT else None


def mutations(seed: int, count: int) -> Iterator[tuple[int, str]]:
    """Numbered mutations; the number alone tells the text."""
    for number in range(seed, seed + count):
        draw = random.Random(number)
        yield number, mutated(draw.choice(texts()), draw)


def check(seed: int, count: int) -> None:
    faults = []
    # A full collection of what other tests have left would count as the time of one text.
    gc.collect()
    gc.freeze()
    try:
        for number, text in mutations(seed, count):
            if (fault := problem(text)) is not None:
                faults.append(f"mutation {number}: {fault}\n{text}")
    finally:
        gc.unfreeze()
    assert not faults, f"{len(faults)} faults\n\n" + "\n\n".join(faults[:3])


def test_the_texts_are_many() -> None:
    assert len(texts()) > 25


def test_mutations() -> None:
    check(0, 300)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_mutations(part: int) -> None:
    check(1000 * part, 1000)
