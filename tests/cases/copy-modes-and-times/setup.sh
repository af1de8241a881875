cd d
for m in 4755 2755 1644 600; do echo $m >f$m; chmod $m f$m; done
chmod 644 f600
mkdir t
chmod 1777 t
touch -d @1500000000 f4755
touch -d @1400000000.75 x
