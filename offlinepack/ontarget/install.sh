#!/bin/sh
# Finds a Python 3.6 or newer and starts install.py with it. All arguments are passed on.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python3.7 python3.6 \
    /usr/bin/python3 /usr/local/bin/python3 /usr/libexec/platform-python python; do
    if "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 6))' >/dev/null 2>&1; then
        exec "$python" -I -B "$here/install.py" "$@"
    fi
done
echo "No Python 3.6 or newer was found. Install one (for example: apt install python3, dnf install python3), or name it: PYTHON install.py" >&2
echo "未找到 Python 3.6 或更新版本。请先安装（例如 apt install python3 或 dnf install python3），或直接指定：PYTHON install.py" >&2
exit 10
