#!/bin/sh
# uv 0.13.9 with setuptools 80.9.0, 2026-12-01. Source: run.
#
# A workspace member with `package = false` is virtual: uv installs its dependencies, not the member itself.
#
# Expected: where a packaged member depends on the virtual one, the name `tools` is gone from everything that leaves the workspace,
# or is present everywhere.
# Real: `uv export` writes a pylock.toml without `tools`, but with what `tools` depends on. The wheel that `uv build` makes of the
# packaged member still says `Requires-Dist: tools`. Who installs the wheels of this lock and then asks for what their METADATA require
# (pip check, pip install without --no-deps) looks for a project `tools` on an index, where anybody may own that name.
set -eu
PIP_CONFIG_FILE=/dev/null
export PIP_CONFIG_FILE
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 setuptools==80.9.0
mkdir -p work/tools work/app/app
cat >work/pyproject.toml <<'END'
[project]
name = "work"
version = "0"
requires-python = ">=3.9"
dependencies = ["app"]
[tool.uv]
package = false
[tool.uv.workspace]
members = ["app", "tools"]
[tool.uv.sources]
app = { workspace = true }
tools = { workspace = true }
END
cat >work/tools/pyproject.toml <<'END'
[project]
name = "tools"
version = "0"
requires-python = ">=3.9"
dependencies = ["iniconfig==2.1.0"]
[tool.uv]
package = false
END
cat >work/app/pyproject.toml <<'END'
[project]
name = "app"
version = "1.0"
requires-python = ">=3.9"
dependencies = ["tools"]
[build-system]
requires = ["setuptools==80.9.0"]
build-backend = "setuptools.build_meta"
END
: >work/app/app/__init__.py
cd work
uv="$folder/env/bin/uv --quiet --no-python-downloads"
$uv lock --python "$folder/env/bin/python"
$uv export --format pylock.toml --no-header --no-editable >pylock.toml
$uv build --wheel --no-build-isolation --python "$folder/env/bin/python" --out-dir "$folder/out" app
names=$(sed -n 's/^name = "\(.*\)"/\1/p' pylock.toml | tr '\n' ' ')
requires=$("$folder/env/bin/python" -c '
import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
metadata = wheel.read("app-1.0.dist-info/METADATA").decode()
print(*[line for line in metadata.splitlines() if line.startswith("Requires-Dist")])' "$folder/out/app-1.0-py3-none-any.whl")
echo "packages in pylock.toml: $names"
echo "METADATA of app: $requires"
case " $names " in *" tools "*) echo "the export names the virtual member now"; exit 1 ;; esac
case " $names " in *" iniconfig "*) ;; *) echo "the export lacks its dependency now"; exit 1 ;; esac
[ "$requires" = "Requires-Dist: tools" ] || { echo "METADATA changed"; exit 1; }
