echo a > la
touch -d @1600000000 la
ln -s nowhere lb
