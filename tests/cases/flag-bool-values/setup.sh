mkdir s && printf 'x\n' > s/x && chmod 644 s/x && tar --mtime=@1500000000 --owner=0 --group=0 --numeric-owner --mode=u=rw,go=r -cf t.tar -C s x && rm -r s
