@echo off
rem Finds a Python 3.6 or newer and starts install.py with it. All arguments are passed on.
setlocal
for %%P in ("py -3" python3 python) do (
  %%~P -I -c "import sys; sys.exit(sys.version_info < (3, 6))" >nul 2>nul && (
    %%~P -I -B "%~dp0install.py" %*
    goto :end
  )
)
echo No Python 3.6 or newer was found. Install one, or name it: PYTHON install.py 1>&2
chcp 65001 >nul
echo 未找到 Python 3.6 或更新版本。请先安装，或直接指定：PYTHON install.py 1>&2
exit /b 10
:end
exit /b %ERRORLEVEL%
