mkdir d
printf x >$'d/caf\xe9'
printf y >$'d/new\nline'
