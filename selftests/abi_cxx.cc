// SPDX-License-Identifier: GPL-2.0
// The rows of abi_table.h as a C++ compiler sees them.
#include "abi_table.h"

extern "C" {
const struct abi_row *abi_cxx_rows(void);
unsigned long abi_cxx_count(void);
}

const struct abi_row *abi_cxx_rows(void)
{
	return abi_rows;
}

unsigned long abi_cxx_count(void)
{
	return ABI_ROWS;
}
