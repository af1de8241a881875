# A chain of 700 directories: the time must not grow with the cube of the depth.
python3 - <<'PY'
import os
fd = os.open(".", os.O_RDONLY)
for _ in range(700):
    os.mkdir("d", dir_fd=fd)
    fd = os.open("d", os.O_RDONLY, dir_fd=fd)
PY
