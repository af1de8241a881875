part=$(head -c 65000 /dev/zero | tr '\0' x)
printf 'FROM scratch\nLABEL a=%s\\\n%s b=c\n' "$part" "$part" > Dockerfile
