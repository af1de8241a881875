ln d/a d/b
mkfifo d/p
chmod 644 d/p
