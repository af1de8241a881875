echo a > la
ln -s nowhere lb
