perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "d/s", Listen => 1) or die $!'
