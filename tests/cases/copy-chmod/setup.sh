chmod 700 d/s; chmod 755 d/s
