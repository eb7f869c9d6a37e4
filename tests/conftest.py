"""Options and fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dnnc.program import kept


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the expected results under tests/golden with what the code gives",
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether expected results are to be rewritten instead of compared."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests leave the user's cache alone; theirs outlives the run, so that kernels compile once."""
    folder = request.config.rootpath / ".pytest_cache" / "dnnc"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DNNC_CACHE", str(folder))
        # What programs are made of must not depend on the processor that tests run on.
        patch.setenv("DNNC_TUNE", "off")
        # Tests are about what the compiler does now, also where they change a part of it.
        patch.setattr(kept, "cache_directory", lambda: None)
        yield
