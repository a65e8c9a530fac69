// SPDX-License-Identifier: GPL-2.0-only
/* The device as a program. The socket is standard input, and the argument is for the device. */
#include <stddef.h>
#include <unistd.h>

#include "device.h"

int main(int argc, char **argv)
{
	return server_run(STDIN_FILENO, argc > 1 ? argv[1] : NULL);
}
