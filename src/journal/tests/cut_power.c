/* Takes the power from the file system of a folder: what is not on its disk is lost (EXT4_IOC_SHUTDOWN). */
#include <fcntl.h>
#include <linux/types.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define EXT4_IOC_SHUTDOWN _IOR('X', 125, __u32)
#define NOTHING_IS_FLUSHED 2

int main(int argc, char **argv) {
    __u32 how = NOTHING_IS_FLUSHED;
    int folder = argc == 2 ? open(argv[1], O_RDONLY) : -1;
    if (folder < 0 || ioctl(folder, EXT4_IOC_SHUTDOWN, &how) != 0) {
        perror("cut_power");
        return 1;
    }
    return 0;
}
