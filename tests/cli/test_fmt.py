"""`dnnc fmt`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Command

MESSY = "const a=1   # one\nconst b =2\n"
NEAT = "const a = 1  # one\nconst b = 2\n"


def test_a_file_is_formatted_and_keeps_its_comments_and_mode(command: Command) -> None:
    path = Path("messy.dnn")
    path.write_text(MESSY)
    path.chmod(0o640)
    result = command("fmt", "messy.dnn")
    assert path.read_text() == NEAT
    assert path.stat().st_mode & 0o777 == 0o640
    assert result.stderr == "reformatted messy.dnn\n"
    assert sorted(p.name for p in Path().iterdir()) == ["messy.dnn", "table.csv", "table.dnn"]


def test_a_neat_file_is_not_touched(command: Command) -> None:
    path = Path("neat.dnn")
    path.write_text(NEAT)
    os.utime(path, ns=(1, 1))
    inode = path.stat().st_ino
    assert command("fmt", "neat.dnn").stderr == ""
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (1, inode)


def test_check_writes_nothing(command: Command) -> None:
    path = Path("messy.dnn")
    path.write_text(MESSY)
    result = command("fmt", "--check", "messy.dnn", exit_code=1)
    assert result.stderr == "would reformat messy.dnn\n"
    assert path.read_text() == MESSY
    path.write_text(NEAT)
    command("fmt", "--check", "messy.dnn")


def test_line_ends_of_other_systems_are_changed(command: Command) -> None:
    path = Path("messy.dnn")
    path.write_bytes(NEAT.replace("\n", "\r\n").encode("utf-8-sig"))
    command("fmt", "messy.dnn")
    assert path.read_bytes() == NEAT.encode()


def test_standard_input_goes_to_standard_output(command: Command) -> None:
    assert command("fmt", "-", input=MESSY).stdout == NEAT
    command("fmt", "-", "--check", input=MESSY, exit_code=1)


def test_a_folder_means_the_files_in_it(command: Command) -> None:
    Path("inner").mkdir()
    Path("inner/messy.dnn").write_text(MESSY)
    Path("inner/other.txt").write_text("left alone")
    command("fmt", ".")
    assert Path("inner/messy.dnn").read_text() == NEAT


def test_a_broken_file_is_reported_and_the_others_are_formatted(command: Command) -> None:
    Path("broken.dnn").write_text("const = 1\n")
    Path("messy.dnn").write_text(MESSY)
    result = command("fmt", "broken.dnn", "messy.dnn", exit_code=1)
    assert "broken.dnn:1:7" in result.stderr
    assert Path("broken.dnn").read_text() == "const = 1\n"
    assert Path("messy.dnn").read_text() == NEAT


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_stays_a_link(command: Command) -> None:
    Path("messy.dnn").write_text(MESSY)
    Path("link.dnn").symlink_to("messy.dnn")
    command("fmt", "link.dnn")
    assert Path("link.dnn").is_symlink()
    assert Path("messy.dnn").read_text() == NEAT
