ln -s a.txt link
ln -s d dirlink
ln -s x d/inner
ln -s /no/where d/dangling
touch -h -d @1600000000 d/inner
touch -d @1600000001 d
