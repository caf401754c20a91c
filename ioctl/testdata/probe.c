/*
 * probe.c prints what the installed kernel headers say about an interface: one
 * line per structure, field and number. The test (abi_test.go) writes the
 * interface's table into headers.inc and rows.inc, compiles this file with them
 * and compares the output with the Go declarations.
 */
#include <sys/ioctl.h>
#include "headers.inc"
#include <stddef.h>
#include <stdio.h>

#define STRUCT(type) \
	printf("struct\t%s\t%llu\n", #type, (unsigned long long)sizeof(type))
#define FIELD(type, field)                                     \
	printf("field\t%s.%s\t%llu\t%llu\n", #type, #field,    \
	       (unsigned long long)offsetof(type, field),      \
	       (unsigned long long)sizeof(((type *)0)->field))
#define NUMBER(expression) \
	printf("number\t%s\t%llu\n", #expression, (unsigned long long)(expression))

int main(void)
{
#include "rows.inc"
	return 0;
}
