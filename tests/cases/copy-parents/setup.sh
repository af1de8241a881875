chmod 2775 x/y
ln -s a.txt x/y/link
touch -d @1400000000 x/y x/y/a.txt
