printf 'FROM scratch\nLABEL a=b\nLABEL a=%s\n' "$(head -c 65528 /dev/zero | tr '\0' x)" > Dockerfile
