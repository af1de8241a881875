ln -s f d/link; ln -s /no/where d/dangling; ln -s s d/dirlink; ln -s ../../../../etc/passwd d/out
