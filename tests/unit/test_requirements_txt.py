"""requirements.txt as pip reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from offlinepack.errors import SourceError
from offlinepack.requirements.policy import ResolutionPolicy
from offlinepack.requirements.read import parse_arguments, read_constraints, read_requirements_file
from offlinepack.requirements.requirements_txt import read_requirements_txt


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(path: Path) -> list[tuple[str, str]]:
    return [(one.line, one.origin) for one in read_requirements_file(path).requirements]


def findings(path: Path, **how: object) -> list[tuple[str, str]]:
    with pytest.raises(SourceError) as caught:
        read_requirements_txt(path, **how)  # type: ignore[arg-type]
    assert caught.value.exit_code == 3
    return [(one.code, one.subject) for one in caught.value.findings]


def test_names_versions_extras_markers_and_comments() -> None:
    path = write(
        "requirements.txt",
        "# the application\n"
        "Flask >= 3, < 4   # pinned below\n"
        "\n"
        'celery[redis, auth]==5.4.0 ; python_version >= "3.8"\n'
        "django \\\n"
        "  ~=5.2\n",
    )
    assert lines(path) == [
        ("Flask<4,>=3", "requirements.txt:2"),
        ('celery[auth,redis]==5.4.0 ; python_version >= "3.8"', "requirements.txt:4"),
        ("django~=5.2", "requirements.txt:5"),
    ]
    asked = read_requirements_file(path).requirements
    assert [one.name for one in asked] == ["flask", "celery", "django"]
    assert asked[1].extras == {"auth", "redis"}


def test_hashes_are_kept_over_continuation_lines() -> None:
    path = write("r.txt", f"stone==1.0 \\\n  --hash=sha256:{'a' * 64} \\\n  --hash sha512:{'b' * 128}\n")
    (asked,) = read_requirements_file(path).requirements
    assert asked.hashes == (f"sha256:{'a' * 64}", f"sha512:{'b' * 128}")
    assert asked.line == "stone==1.0"


def test_nested_files_lie_beside_the_one_that_names_them() -> None:
    write("sub/base.txt", "stone\n-c pins.txt\n-r more/deep.txt\n")
    write("sub/pins.txt", "pebble<2\n")
    write("sub/more/deep.txt", "gravel\n")
    found = read_requirements_file(write("requirements.txt", "-r sub/base.txt\n--constraint=sub/pins.txt\nsand\n"))
    assert [(one.line, one.origin) for one in found.requirements] == [
        ("stone", "sub/base.txt:1"),
        ("gravel", "sub/more/deep.txt:1"),
        ("sand", "requirements.txt:3"),
    ]
    assert {one.line for one in found.constraints} == {"pebble<2"}


def test_what_is_nested_in_a_constraints_file_constrains() -> None:
    write("base.txt", "stone<2\n")
    found = read_constraints(write("pins.txt", "-c base.txt\npebble==1\n"))
    assert not found.requirements
    assert [one.line for one in found.constraints] == ["stone<2", "pebble==1"]


def test_a_file_that_names_itself_is_a_circle() -> None:
    write("b.txt", "-r a.txt\n")
    assert findings(write("a.txt", "-r b.txt\n")) == [("circle", "b.txt:1")]


def test_the_same_file_twice_is_no_circle() -> None:
    write("b.txt", "stone\n")
    assert len(read_requirements_file(write("a.txt", "-r b.txt\n-r b.txt\n")).requirements) == 2


def test_options_about_indexes_are_collected() -> None:
    (Path("wheels")).mkdir()
    found = read_requirements_file(
        write(
            "r.txt",
            "--index-url https://user:secret@mirror.example/simple\n"
            "--extra-index-url https://other.example/simple\n"
            "--find-links wheels\n"
            "-f https://flat.example/\n"
            "--trusted-host mirror.example\n"
            "--pre\n--no-binary uwsgi\n--only-binary Stone,pebble\n"
            "--require-hashes\nstone\n",
        )
    )
    options = found.index_options
    assert options.index_url == "https://user:secret@mirror.example/simple"
    assert options.extra_index_urls == ("https://other.example/simple",)
    assert options.find_links == (str(Path("wheels").resolve()), "https://flat.example/")
    assert options.trusted_hosts == ("mirror.example",)
    assert "secret" not in repr(found)
    policy = found.policy
    assert policy.pre and policy.require_hashes
    control = policy.format_control
    assert control.no_binary == ("uwsgi",) and control.only_binary == ("pebble", "stone")


def test_no_index() -> None:
    assert read_requirements_file(write("r.txt", "--no-index\n-f here\nstone\n")).index_options.no_index


def test_policies_of_a_project_win_over_all() -> None:
    found = read_requirements_file(write("r.txt", "--only-binary :all:\n--no-binary uwsgi\nuwsgi\n"))
    control = found.policy.format_control
    assert control.allows_source("uwsgi") and not control.allows_source("stone")
    assert not control.allows_wheel("uwsgi") and control.allows_wheel("stone")


def test_the_last_format_option_wins_across_files() -> None:
    write("other.txt", "--no-binary stone --only-binary pebble\nstone\n")
    first = read_requirements_file(write("r.txt", "--only-binary stone --no-b=pebble\n-r other.txt\nstone\n"))
    assert first.policy.format_control.no_binary == ("stone",)
    assert first.policy.format_control.only_binary == ("pebble",)
    second = read_requirements_file(write("s.txt", "--no-binary :none:\n--only-binary stone\nstone\n"))
    assert (first + second).policy.format_control.no_binary == ()
    assert (first + second).policy.format_control.only_binary == ("pebble", "stone")


def test_variables_are_filled_in_but_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    (asked,) = read_requirements_file(
        write("r.txt", "stone @ git+https://${TOKEN}@host.example/stone.git@v1\n")
    ).requirements
    assert asked.line == "stone @ git+https://s3cret@host.example/stone.git@v1"
    assert asked.redacted_line == "stone @ git+https://host.example/stone.git@v1"
    assert "s3cret" not in repr(asked) and "s3cret" not in str(asked)


def test_a_version_from_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    assert findings(write("r.txt", "stone==${NOT_SET}\n")) == [("variable-not-set", "r.txt:1")]


def test_a_variable_that_is_not_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    (asked,) = read_requirements_file(
        write("r.txt", "stone @ https://host.example/${NOT_SET}/stone-1.0.tar.gz\n")
    ).requirements
    assert "${NOT_SET}" in asked.line


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        (
            "https://host.example/stone-1.0-py3-none-any.whl",
            "stone @ https://host.example/stone-1.0-py3-none-any.whl",
            "stone",
        ),
        ("https://host.example/my_stone-1.0.tar.gz", "my-stone @ https://host.example/my_stone-1.0.tar.gz", "my-stone"),
        ("https://host.example/archive/main.zip", "https://host.example/archive/main.zip", None),
        ("git+https://host.example/x.git@v1#egg=stone", "stone @ git+https://host.example/x.git@v1#egg=stone", "stone"),
        ("git+https://host.example/x.git", "git+https://host.example/x.git", None),
        (
            "stone[a] @ git+ssh://git@host.example/x.git ; python_version<'3.9'",
            'stone[a] @ git+ssh://git@host.example/x.git ; python_version < "3.9"',
            "stone",
        ),
    ],
)
def test_addresses(text: str, line: str, name: str | None) -> None:
    (asked,) = read_requirements_file(write("r.txt", f"{text}\n")).requirements
    assert (asked.line, asked.name) == (line, name)


def test_paths_are_those_of_the_working_directory(here: Path) -> None:
    write("sub/stone/pyproject.toml", '[project]\nname = "Stone_Age"\nversion = "1"\n')
    write("wheels/pebble-1.0-py3-none-any.whl", b"")
    write("old/setup.py", "from setuptools import setup; setup(name='old')\n")
    write("cfg/setup.cfg", "[metadata]\nname = cfg_stone\n")
    write("cfg/setup.py", "")
    found = read_requirements_file(
        write(
            "sub/r.txt",
            "./sub/stone[fire,flint]\n-e sub/stone\nwheels/pebble-1.0-py3-none-any.whl\n./old[x]\n-e ./cfg\n",
        )
    )
    stone, editable, pebble, old, cfg = found.requirements
    assert stone.line == f"stone-age[fire,flint] @ {(here / 'sub/stone').as_uri()}"
    assert (editable.name, editable.is_editable) == ("stone-age", True)
    assert [(one.code, one.subject) for one in found.notes] == [
        ("editable-as-wheel", f"sub/r.txt:{at}") for at in (2, 5)
    ]
    assert pebble.line == f"pebble @ {(here / 'wheels/pebble-1.0-py3-none-any.whl').as_uri()}"
    assert (old.name, old.line, old.extras) == (None, f"{(here / 'old').as_uri()}[x]", {"x"})
    assert old.url == (here / "old").as_uri()
    assert cfg.name == "cfg-stone"


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffstone\n".encode(),
        "stone\n".encode("utf-16"),
        b"\xff\xfe" + "stone\n".encode("utf-16-le"),
        "# -*- coding: gb18030 -*-\nstone # 石头\n".encode("gb18030"),
        b"stone\r\n\r\n",
        "stone  # 石头\n".encode(),
    ],
)
def test_encodings(content: bytes) -> None:
    assert lines(write("r.txt", content))[0][0] == "stone"


def test_all_bad_lines_at_once() -> None:
    path = write(
        "requirements.txt",
        "stone\nflask=3.0\n--no-such-option\n== 3\n./nowhere\n-r gone.txt\npebble>1,,\n"
        "--hash\ngravel ; nonsense == 'x'\n",
    )
    assert findings(path) == [
        ("single-equals", "requirements.txt:2"),
        ("bad-option", "requirements.txt:3"),
        ("bad-requirement", "requirements.txt:4"),
        ("no-such-path", "requirements.txt:5"),
        ("no-such-file", "requirements.txt:6"),
        ("bad-requirement", "requirements.txt:7"),
        ("bad-option", "requirements.txt:8"),
        ("bad-requirement", "requirements.txt:9"),
    ]


def test_hashes_and_eggs_that_pip_does_not_take(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        "r.txt",
        "stone==1 --hash=md5:d41d8cd98f00b204e9800998ecf8427e\nstone==1 --hash=sha256\n"
        "-e git+https://host.example/stone#egg=stone[x]&subdirectory=sub\n",
    )
    assert findings(path) == [("bad-hash", "r.txt:1"), ("bad-hash", "r.txt:2"), ("bad-egg", "r.txt:3")]
    assert capsys.readouterr().err == ""


def test_a_marker_after_a_file_is_reported_as_ignored() -> None:
    write("more.txt", "stone\n")
    found = read_requirements_file(write("r.txt", "-r more.txt ; python_version < '3'\n"))
    assert [one.line for one in found.requirements] == ["stone"]
    assert [(one.code, one.subject) for one in found.notes] == [("marker-not-read", "r.txt:1")]


def test_an_encoding_that_nobody_names(capfd: pytest.CaptureFixture[str]) -> None:
    assert findings(write("r.txt", "# café\nstone\n".encode("latin-1"))) == [("bad-encoding", "r.txt")]
    assert capfd.readouterr().err == ""


def test_a_bad_line_shows_no_secret() -> None:
    with pytest.raises(SourceError) as caught:
        read_requirements_file(write("r.txt", "https://user:s3cret@host.example/stone.whl\n"))
    (finding,) = caught.value.findings
    assert "s3cret" not in finding.render() + finding.log


def test_a_missing_file() -> None:
    assert findings(Path("gone.txt")) == [("no-such-file", "gone.txt")]


def test_a_folder() -> None:
    assert findings(write("folder/x", "").parent) == [("is-a-folder", "folder")]


def test_a_binary_file() -> None:
    assert findings(write("stone.whl", b"PK\x03\x04\x00\x00stone")) == [("binary-file", "stone.whl")]


def test_an_unknown_encoding() -> None:
    assert findings(write("r.txt", b"# coding: no-such-thing\nstone\n")) == [("bad-encoding", "r.txt")]


def test_an_editable_constraint() -> None:
    write("stone/pyproject.toml", '[project]\nname = "stone"\nversion = "1"\n')
    assert findings(write("c.txt", "-e ./stone\n"), constraint=True) == [("editable-constraint", "c.txt:1")]


def test_a_file_on_the_network_comes_by_the_caller() -> None:
    pages = {
        "https://host.example/a/upper.txt": b"-r more.txt\nstone<2\n",
        "https://host.example/a/more.txt": b"pebble<3\n",
    }
    path = write("r.txt", "-c https://host.example/a/upper.txt\nstone\n")
    found = read_requirements_txt(path, page=pages.__getitem__)
    assert [(one.line, one.origin) for one in found.constraints] == [
        ("pebble<3", "https://host.example/a/more.txt:1"),
        ("stone<2", "https://host.example/a/upper.txt:2"),
    ]
    assert findings(path) == [("address", "r.txt:1")]


def test_arguments() -> None:
    found = parse_arguments(["Flask>=3"])
    assert (found.requirements[0].origin, found.identity.name) == ("argument 1", "flask")
    assert parse_arguments(["flask", "stone"]).identity.name is None
    with pytest.raises(SourceError) as caught:
        parse_arguments(["flask", "a b", "stone", "x=1"])
    assert [one.subject for one in caught.value.findings] == ["argument 2", "argument 4"]


def test_a_requirements_file_as_argument_is_recognized() -> None:
    write("requirements.txt", "stone\n")
    with pytest.raises(SourceError) as caught:
        parse_arguments(["./requirements.txt"])
    (finding,) = caught.value.findings
    assert finding.code == "file-as-requirement"
    assert "-r ./requirements.txt" in finding.render()


def test_a_folder_without_a_project() -> None:
    write("empty/readme.txt", "")
    with pytest.raises(SourceError) as caught:
        parse_arguments(["./empty"])
    assert [one.code for one in caught.value.findings] == ["no-project"]


def test_together() -> None:
    both = parse_arguments(["stone"]) + read_requirements_file(write("r.txt", "--pre\npebble\n"))
    assert [one.line for one in both.requirements] == ["stone", "pebble"]
    assert both.policy.pre and both.identity.name is None


def test_a_single_requirement_gives_its_name() -> None:
    assert parse_arguments(["Stone[x]>=1"]).identity.name == "stone"
    assert read_requirements_file(write("r.txt", "--pre\nStone\n")).identity.name == "stone"
    assert (parse_arguments(["stone"]) + read_constraints(write("c.txt", "pebble<2\n"))).identity.name == "stone"
    assert read_requirements_file(write("r.txt", "stone\npebble\n")).identity.name is None


def test_a_hash_in_an_address() -> None:
    line = f"https://host.example/stone-1.0-py3-none-any.whl#sha256={'a' * 64}"
    assert parse_arguments([line]).requirements[0].hashes == (f"sha256:{'a' * 64}",)


def test_a_constraint_has_a_name() -> None:
    assert findings(write("c.txt", "git+https://host.example/x.git\n"), constraint=True) == [
        ("unnamed-constraint", "c.txt:1")
    ]


def test_a_bare_date_is_the_beginning_of_that_day() -> None:
    assert ResolutionPolicy(uploaded_prior_to="2026-01-31").uploaded_prior_to == "2026-01-31T00:00:00Z"
    assert ResolutionPolicy(uploaded_prior_to="2026-01-31T12:00:00+08:00").uploaded_prior_to.endswith("+08:00")  # type: ignore[union-attr]


def test_paths_that_do_not_exist_are_all_listed() -> None:
    lines = "idna @ file:///croot/idna_1666125576474/work\nsix @ file:///nowhere/six\nstone\n"
    assert findings(write("r.txt", lines)) == [("conda-path", "r.txt:1"), ("no-such-path", "r.txt:2")]


def test_an_option_with_a_hash_is_distinguished_from_a_hash_in_a_url() -> None:
    hashed = read_requirements_file(write("r.txt", f"stone==1.0 --hash=sha256:{'0' * 64}\n"))
    assert [line.has_hash_option for line in hashed.requirements] == [True]
    line = f"https://host.example/stone-1.0-py3-none-any.whl#sha256={'a' * 64}"
    assert [line.has_hash_option for line in parse_arguments([line]).requirements] == [False]


@pytest.mark.parametrize(
    ("content", "command"),
    [
        ("Package    Version\n---------- -------\nsix        1.16.0\n", "pip list"),
        ("# platform: linux-64\n_libgcc_mutex=0.1=main\nsix=1.16.0=pyhd3eb1b0_1\n", "conda list --export"),
        ("requests==2.31.0\n  - idna [required: >=2.5,<4, installed: 3.4]\n", "pipdeptree"),
        ("requests==2.31.0\n├── idna [required: >=2.5,<4, installed: 3.4]\n", "pipdeptree"),
    ],
)
def test_the_listing_of_another_tool_is_named(content: str, command: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_requirements_file(write("r.txt", content))
    (finding,) = caught.value.findings
    assert finding.code == "not-requirements" and f"`{command}`" in finding.render()


def test_words_that_pip_ignores_are_errors() -> None:
    content = "six -r other.txt\nidna --pre\nstone==1.0 --hash=sha256:" + "0" * 64 + "\n--pre moss\n"
    assert findings(write("r.txt", content)) == [("words-ignored", f"r.txt:{number}") for number in (1, 2, 4)]


def test_what_only_debian_lists_is_left_out_with_a_note() -> None:
    requirements = read_requirements_file(write("r.txt", "pkg-resources==0.0.0\nsix==1.16.0\n"))
    assert [line.line for line in requirements.requirements] == ["six==1.16.0"]
    assert [finding.code for finding in requirements.notes] == ["debian-artifact"]
