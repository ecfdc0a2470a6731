/* SPDX-License-Identifier: GPL-2.0 */
/* A simulated TD for tests: what its two files share. See td.c. */
#ifndef CIMA_TEST_TD_H
#define CIMA_TEST_TD_H

#include <linux/cleanup.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <crypto/sha2.h>

#define MR_SIZE SHA384_DIGEST_SIZE
#define MRTD 0
#define RTMR(i) (1 + (i))
#define MR_COUNT 5

/*
 * Failures that a test asks for, in /sys/module/cima_test_td/parameters/.
 * Those that count go down by one each time they strike.
 */
#define KNOB(name, about)                       \
	static int name;                        \
	module_param(name, int, 0600);          \
	MODULE_PARM_DESC(name, about)

extern struct mutex td_lock; /* of live and of the knobs that count */
extern u8 live[MR_COUNT][MR_SIZE];

bool strikes(int *knob);

int quote_start(void);
void quote_end(void);
int quote_answer(u64 number, u8 *quote, size_t len);
ssize_t quote_request(struct file *file, char __user *to, size_t len, loff_t *pos);

#endif
