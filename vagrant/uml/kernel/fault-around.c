	/*
	 * Put into handle_page_fault(), arch/um/kernel/trap.c, where a fault is done: so are those of the fifteen pages behind it, as far
	 * as they are in the same 64 KiB, have nothing yet and belong to the same mapping.
	 */
	if (is_user && is_write && vma_is_anonymous(vma) && !(vma->vm_flags & VM_GROWSDOWN)) {
		unsigned long next = address & PAGE_MASK, last = min(vma->vm_end, (address | 0xffff) + 1);

		while ((next += PAGE_SIZE) < last && pte_none(*pte_offset_kernel(pmd, next)))
			if (handle_mm_fault(vma, next, FAULT_FLAG_WRITE, NULL) & VM_FAULT_ERROR)
				break;
	}
