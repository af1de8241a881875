ln -s / up
