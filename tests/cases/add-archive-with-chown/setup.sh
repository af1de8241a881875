mkdir t
echo x >t/x
mkdir t/d
echo y >t/d/y
ln -s x t/l
ln t/x t/z
chmod 4755 t/x
touch -h -d @1500000000 t/x t/d/y t/l t/d
tar --owner=44 --group=55 --sort=name -C t -cf t.tar x z d l
rm -r t
