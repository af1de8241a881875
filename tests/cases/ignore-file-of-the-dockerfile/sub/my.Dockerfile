FROM scratch
COPY [ab] /o/
