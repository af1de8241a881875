touch -d @1600000000 d/s
touch -d @1600000001 d
