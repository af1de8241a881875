#include <stdio.h>
#include <sys/utsname.h>

/* Prints the machine that it runs on. */
int main(void) {
    struct utsname name;
    if (uname(&name) != 0) {
        perror("uname");
        return 1;
    }
    printf("hello from %s\n", name.machine);
    return 0;
}
