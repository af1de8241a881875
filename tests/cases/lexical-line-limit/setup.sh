# 65535 bytes is the longest line; the line end does not count.
printf 'FROM scratch\nLABEL a=%s\nLABEL b=c' "$(head -c 65527 /dev/zero | tr '\0' x)" > Dockerfile
test "$(sed -n 2p Dockerfile | tr -d '\n' | wc -c)" = 65535
