ln -s f d/l
