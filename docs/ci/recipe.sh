#!/bin/sh
# A release with an offline bundle, for any CI: sh docs/ci/recipe.sh VERSION [PREVIOUS-BUNDLE]
# Needs Python 3.11 or newer. Options of offlinepack build come as OFFLINEPACK_<LONG_OPTION> or from [tool.offlinepack].
# OFFLINEPACK_PACKAGE is what pip installs to get it: offlinepack, a wheel, git+https://...
set -eu
version=$1 previous=${2:-}
work=${OFFLINEPACK_WORK:-.offlinepack} # keep this folder between runs: files, what resolvers read, and locks
period=${LOCK_PERIOD-%G-W%V}           # so long the same input packs the same versions: a week; %Y-%m-%d a day, empty for ever
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "${OFFLINEPACK_PACKAGE:-offlinepack}"
export OFFLINEPACK_CACHE_DIR="$work/store" OFFLINEPACK_LOCK_DIR="$work/lock/$(date -u "+$period")" OFFLINEPACK_APP_VERSION="$version"
mkdir -p dist

# exit codes: 4 the lock no longer fits, 5 a package has no file for a target, 10 a rehearsal failed; README has them all
"$work/venv/bin/offlinepack" build --json -o 'dist/{name}-{version}-{target}.tar.gz' >dist/build.json || {
  code=$?
  cat dist/build.json
  exit $code
}
(cd dist && sha256sum -c -- *.sha256)
for bundle in dist/*.sha256; do
  bundle=${bundle%.sha256}
  "$work/venv/bin/offlinepack" verify "$bundle"
  [ -z "$previous" ] || "$work/venv/bin/offlinepack" diff "$previous" "$bundle"
done
