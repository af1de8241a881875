echo hello | gzip -n >words.gz
