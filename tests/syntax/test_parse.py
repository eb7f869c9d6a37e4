"""Text → tree: every form of the language, and the place of every node."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lark import Lark

from dnnc.diagnostics import Source, Span
from dnnc.syntax import tree
from dnnc.syntax.parse import parse, parse_expression
from dnnc.syntax.tables import STARTS, compile_grammar, grammar_path

SNIPPETS = sorted((Path(__file__).parent / "snippets").glob("*.dnn"))
NOWHERE = Span(Source("", ""), 0, 0)


def show(node: Any) -> str:  # noqa: C901 - one case a node
    """A tree as text with all its brackets."""
    match node:
        case tree.Number() | tree.Boolean():
            return str(node.value)
        case tree.String():
            return repr(node.value)
        case tree.Name():
            return node.name
        case tree.Attribute():
            return f"{show(node.value)}.{node.name}"
        case tree.Index():
            return f"{show(node.value)}[{show(node.index)}]"
        case tree.Unary():
            return f"({node.operator} {show(node.operand)})"
        case tree.Binary():
            return f"({show(node.left)} {node.operator} {show(node.right)})"
        case tree.Conditional():
            return f"(if {show(node.test)} then {show(node.yes)} else {show(node.no)})"
        case tree.ListExpr():
            return f"[{', '.join(map(show, node.items))}]"
        case tree.Argument():
            return f"{node.name}={show(node.value)}" if node.name else show(node.value)
        case tree.Chain():
            return " > ".join(map(show, node.stages))
        case tree.Stage():
            branches = f"{{{' | '.join(map(show, node.branches))}}}" if node.branches else ""
            name = f" as {node.name}" if node.name else ""
            return f"{show(node.callee)}({', '.join(map(show, node.arguments))}){branches}{name}"
        case tree.Pipe():
            return f"({show(node.value)} > {show(node.stage)})"
        case tree.Call():
            return f"{show(node.callee)}({', '.join(map(show, node.arguments))})"
        case tree.Group():
            return f"<{show(node.value)}>"
    raise AssertionError(node)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1 + 2 * 3 - 4", "((1 + (2 * 3)) - 4)"),
        ("-x ** 2", "(- (x ** 2))"),
        ("2 ** -x ** 3", "(2 ** (- (x ** 3)))"),
        ("a @ b // c % d", "(((a @ b) // c) % d)"),
        ("not a == b and c or d", "(((not (a == b)) and c) or d)"),
        ("a - -1", "(a - (- 1))"),
        ("(a + b) * c", "(<(a + b)> * c)"),
        ("if a then b else c -> f", "(if a then b else (c > f()))"),
        (
            "if a then b -> f else if c then d else e",
            "(if a then (b > f()) else (if c then d else e))",
        ),
        ("a + b -> f(1, k = 2) as one -> m.g", "(((a + b) > f(1, k=2) as one) > m.g())"),
        ("x -> r { a -> b(1) | c as d } -> e", "((x > r(){a() > b(1) | c() as d}) > e())"),
        ("f(a)(b).c[0].d", "f(a)(b).c[0].d"),
        ("[1, [2, 3,], ][0]", "[1, [2, 3]][0]"),
        ("f(a -> g, if b then c else d,)", "f((a > g()), (if b then c else d))"),
        ('"a \\"b\\" \\\\ \\t{c}"', repr('a "b" \\ \t{c}')),
        ("8_000 + 1e-3 + 2.5", "((8000 + 0.001) + 2.5)"),
        ("true == false", "(True == False)"),
        ("x\n  -> f\n  -> g", "((x > f()) > g())"),
        ("data + on - model(state = 1)", "((data + on) - model(state=1))"),
    ],
)
def test_expressions(text: str, shown: str) -> None:
    assert show(parse_expression(Source("x", text))) == shown


def test_numbers_keep_their_kind() -> None:
    for text, value in (("8_000", 8000), ("1e3", 1000.0), ("1.0", 1.0), ("0", 0)):
        number = parse_expression(Source("x", text))
        assert isinstance(number, tree.Number)
        assert (number.value, type(number.value)) == (value, type(value))


def test_statements() -> None:
    (block,) = parse(
        Source(
            "x",
            """block b(width, stride = 1) {
                in p, g
                in x: i32[batch, ..., seq <= 2 * context]
                out y: []
                param w: [a] = zeros
                state m = 0
                require a > 0, "no {a}"
                a, b = split(x, 2)
                if a { } else if b { emit c = d } else { return e }
                for i in 0 .. n { }
                scan xt, yt in x, y along time { carry h: [a] = 0 }
                repeat n - 1 { q = 1 }
            }""",
        )
    ).items
    assert isinstance(block, tree.Block)
    assert (block.kind, block.name, block.name_span.text) == ("block", "b", "b")
    assert [setting.name for setting in block.settings] == ["width", "stride"]
    kinds = [type(statement).__name__ for statement in block.body]
    assert kinds == (
        "Port Port Port Parameter State Require Bind If For Scan Repeat".split()  # noqa: SIM905
    )
    _, port, *_, choice, loop, scan, _ = block.body
    assert isinstance(port, tree.Port)
    assert port.shape is not None
    assert port.shape.dtype == "i32"
    assert isinstance(port.shape.dims[1], tree.Ellipsis_)
    bound = port.shape.dims[2]
    assert isinstance(bound, tree.Dimension)
    assert bound.bound is not None
    assert show(bound.bound) == "(2 * context)"
    assert isinstance(choice, tree.If)
    assert isinstance(choice.orelse[0], tree.If)
    assert isinstance(choice.orelse[0].orelse[0], tree.Return)
    assert isinstance(loop, tree.For)
    assert (show(loop.values), loop.stop and show(loop.stop)) == ("0", "n")
    assert isinstance(scan, tree.Scan)
    assert (scan.names, [show(value) for value in scan.values]) == (("xt", "yt"), ["x", "y"])


def test_definitions_and_jobs() -> None:
    file = parse(
        Source(
            "x",
            """import "a.dnn" as a import "b.dnn"
            const c = 1 fn f() = 2 fn g() { return 2 } optimizer o { } data D { }
            train M on D { optimizer.lr = 1 step(1) minimize x require y }
            compress S = M on D { } search B = M on D { } distill T from M on D { }""",
        )
    )
    first, second, _, short, long, optimizer, _, train, compress, search, distill = file.items
    assert isinstance(first, tree.Import)
    assert isinstance(second, tree.Import)
    assert (first.name, second.name) == ("a", None)
    assert isinstance(short, tree.Function)
    assert isinstance(long, tree.Function)
    assert (short.short, long.short) == (True, False)
    assert short.body == long.body
    assert isinstance(optimizer, tree.Block)
    assert optimizer.kind == "optimizer"
    assert isinstance(train, tree.Job)
    assert [type(entry).__name__ for entry in train.entries] == ["Rule", "Step", "Goal", "Require"]
    jobs = [job for job in (train, compress, search, distill) if isinstance(job, tree.Job)]
    facts = [(j.kind, j.result, j.model.name, j.teacher and j.teacher.name) for j in jobs]
    assert facts == [
        ("train", None, "M", None),
        ("compress", "S", "M", None),
        ("search", "B", "M", None),
        ("distill", None, "T", "M"),
    ]


def test_an_empty_file() -> None:
    assert parse(Source("x", "")) == tree.File(NOWHERE, ())
    assert parse(Source("x", "  # nothing\n")) == tree.File(NOWHERE, ())


def nodes(value: object) -> Iterator[tree.Node]:
    if isinstance(value, tuple):
        for part in value:
            yield from nodes(part)
    elif isinstance(value, tree.Node):
        yield value
        for part in dataclasses.fields(value):
            yield from nodes(getattr(value, part.name))


@pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.stem)
def test_every_span_is_the_text_of_its_node(path: Path) -> None:
    source = Source(path.name, path.read_text(encoding="utf-8"))
    for node in nodes(parse(source)):
        text = node.span.text
        assert node.span.source is source
        if isinstance(node, tree.File):
            assert text == source.text
            continue
        assert text == text.strip()
        if isinstance(node, tree.Expr.__args__):
            assert parse_expression(Source("again", text)) == node
        elif isinstance(node, tree.Item.__args__):
            assert parse(Source("again", text)).items == (node,)
        elif isinstance(node, tree.Statement.__args__):
            # The value of a short function is a Return without its word.
            short = isinstance(node, tree.Return) and not text.startswith("return")
            body = parse(Source("again", f"block b {{ {'return ' * short}{text} }}")).items[0]
            assert isinstance(body, tree.Block)
            assert body.body == (node,)


def test_spans() -> None:
    source = Source("x", "model  M {\n  y = a  -> f( 1 )  as g -> h\n}\n")
    (model,) = parse(source).items
    assert isinstance(model, tree.Block)
    assert model.span.text == "model  M {\n  y = a  -> f( 1 )  as g -> h\n}"
    assert model.name_span.place == "x:1:8"
    (bind,) = model.body
    assert isinstance(bind, tree.Bind)
    assert isinstance(bind.value, tree.Pipe)
    assert bind.span.place == "x:2:3"
    head, stages = bind.value.unroll()
    assert head.span.text == "a"
    assert [stage.span.text for stage in stages] == ["f( 1 )  as g", "h"]
    assert isinstance(bind.value.value, tree.Pipe)
    assert bind.value.value.span.text == "a  -> f( 1 )  as g"


def test_the_grammar_is_strict_lalr_and_agrees_with_lark() -> None:
    grammar = grammar_path().read_text(encoding="utf-8")
    assert compile_grammar(grammar, strict=True) is not None
    parser = Lark(grammar, parser="lalr", start=list(STARTS), strict=True)
    for path in SNIPPETS:
        if path.stem != "everything":  # uses keywords as names, which Lark's own lexer cannot tell
            parser.parse(path.read_text(encoding="utf-8"), start="start")
