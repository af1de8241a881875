mkdir t
echo x >t/x
tar -P --transform "s,^,../../,S" -C t -cf t.tar x
rm -r t
