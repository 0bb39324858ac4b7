"""What the committed build of the GraphiQL page promises: complete, self-contained, licensed."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from graphql import OperationDefinitionNode, parse
from typing_extensions import override

SOURCE = Path(__file__).parents[2] / "app" / "graphiql"
BUNDLE = Path(__file__).parents[2] / "app" / "static" / "graphiql"
BASE = "/static/graphiql/"


class Page(HTMLParser):
    """The addresses, inline scripts and event handlers of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self._in_script = False

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        self.addresses += [value for name, value in attrs if name in {"href", "src"} and value]
        self.inline += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if tag == "style":
            self.inline.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    @override
    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.inline.append(data)


@pytest.fixture(scope="module")
def page() -> Page:
    page = Page()
    page.feed((BUNDLE / "index.html").read_text())
    return page


def test_the_page_has_a_script_a_style_and_nothing_inline(page: Page) -> None:
    assert {Path(address).suffix for address in page.addresses} == {".js", ".css", ".svg"}
    assert page.inline == []


def test_the_page_names_only_files_of_the_bundle(page: Page) -> None:
    assert [address for address in page.addresses if not address.startswith(BASE)] == []
    missing = [
        address for address in page.addresses if not (BUNDLE / address.removeprefix(BASE)).is_file()
    ]
    assert missing == []


def test_the_page_names_no_other_server() -> None:
    text = (BUNDLE / "index.html").read_text()
    assert "http://" not in text
    assert "https://" not in text


def test_styles_load_their_files_from_the_bundle_alone() -> None:
    styles = [path.read_text() for path in (BUNDLE / "assets").glob("*.css")]
    assert styles
    assert [style for style in styles if "@import" in style or "url(http" in style] == []


def test_the_bundle_has_no_source_maps() -> None:
    assert sorted(BUNDLE.rglob("*.map")) == []


def test_the_three_editor_workers_are_in_the_bundle() -> None:
    workers = {path.name.split(".worker-")[0] for path in BUNDLE.rglob("*.worker-*.js")}
    assert workers == {"editor", "graphql", "json"}


@pytest.mark.parametrize("package", ["graphiql", "graphql", "monaco-editor", "react"])
def test_the_licences_name_a_bundled_package_with_its_text(package: str) -> None:
    licences = (BUNDLE / "THIRD_PARTY_LICENSES.txt").read_text()
    heading, _, rest = licences.partition(f"\n{package} ")[2].partition("\n")
    assert heading.endswith("(MIT)")
    assert "Permission is hereby granted" in rest.split("=" * 80)[1]


EXAMPLES = sorted((SOURCE / "src" / "examples").glob("*.graphql"))


def test_there_are_five_examples() -> None:
    assert [example.stem for example in EXAMPLES] == [
        "add-candidate",
        "create-leaderboard",
        "infer",
        "leaderboards",
        "start-run",
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_one_operation_with_a_name_for_its_tab(example: Path) -> None:
    (operation,) = parse(example.read_text()).definitions
    assert isinstance(operation, OperationDefinitionNode)
    assert operation.name is not None


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_bundle_was_built_after_the_example_was_edited(example: Path) -> None:
    template_literal = example.read_text().replace("\\", "\\\\").replace("`", "\\`")
    scripts = [path.read_text() for path in (BUNDLE / "assets").glob("index-*.js")]
    assert any(template_literal in script for script in scripts)


def test_the_lock_file_carries_hashes_and_no_download_address() -> None:
    lock = (SOURCE / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert '"resolved"' not in lock
