mkdir -p d/s
echo f > d/s/f
echo x > d/x
ln -s .. d/s/up
ln -s d l
touch -h -d @1600000000 d/s/f d/x d/s d/s/up d l
