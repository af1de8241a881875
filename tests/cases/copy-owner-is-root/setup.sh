if ((EUID == 0)); then chown 5:6 a.txt; fi
