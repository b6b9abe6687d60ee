# Sourced by the scripts of this folder: makes the environment "$1" beside the Python that runs this ($PYTHON). It sees the
# libraries of that one (torch and what else both need) behind its own.
set -eu
folder="$1"
python="${PYTHON:-python}"
"$python" -m venv "$folder"
packages=$("$python" -c "import site; print(site.getsitepackages()[0])")
inside=$("$folder/bin/python" -c "import site; print(site.getsitepackages()[0])")
echo "$packages" > "$inside/base.pth"
