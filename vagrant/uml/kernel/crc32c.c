	/* Put at the beginning of crc32c_base() in lib/crc/crc32-main.c: the processor has an instruction for it (SSE 4.2). */
	u64 wide = crc;

	for (; len >= sizeof(u64); p += sizeof(u64), len -= sizeof(u64))
		asm("crc32q %1, %0" : "+r" (wide) : "rm" (*(const u64 *)p));
	crc = wide;
