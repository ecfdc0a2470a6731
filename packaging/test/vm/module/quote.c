// SPDX-License-Identifier: GPL-2.0
/*
 * Quotes of the simulated TD: a TSM report provider whose quotes a helper in
 * user space signs. It reads a request and writes the answer (td.c).
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/slab.h>
#include <linux/tsm.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "td.h"

#define QUOTE_WAIT (30 * HZ) /* as the real driver */

KNOB(quote_fails, "so many quotes fail with quote_errno");
KNOB(quote_errno, "a positive errno");
KNOB(quote_empties, "so many quotes succeed and have no bytes");
KNOB(quote_delay_ms, "how long each quote takes besides signing");

/* What the helper reads. */
struct request {
	__le64 number;
	u8 data[TSM_REPORT_INBLOB_MAX];
	u8 registers[MR_COUNT][MR_SIZE];
} __packed;

static DEFINE_MUTEX(quote_lock); /* one quote at a time, as the real driver */
static DECLARE_WAIT_QUEUE_HEAD(asked);
static DECLARE_COMPLETION(answered);
static DEFINE_SPINLOCK(quote_state); /* of what follows */
static struct request request;
static bool unread, waiting; /* the request, for its answer */
static u8 *answer;
static size_t answer_len;

static int make_quote(struct tsm_report *report)
{
	bool empty = strikes(&quote_empties), fails = strikes(&quote_fails);
	long left;

	scoped_guard(spinlock, &quote_state) {
		reinit_completion(&answered);
		le64_add_cpu(&request.number, 1);
		memcpy(request.data, report->desc.inblob, sizeof(request.data));
	}
	/* The TDREPORT is taken before the wait. */
	scoped_guard(mutex, &td_lock)
		memcpy(request.registers, live, sizeof(live));
	if (quote_delay_ms && msleep_interruptible(quote_delay_ms))
		return -EINTR;
	if (fails)
		return -quote_errno;
	if (empty)
		return 0;
	scoped_guard(spinlock, &quote_state)
		unread = waiting = true;
	wake_up_interruptible(&asked);
	left = wait_for_completion_interruptible_timeout(&answered, QUOTE_WAIT);
	guard(spinlock)(&quote_state);
	unread = waiting = false;
	report->outblob = answer; /* the kernel's tsm frees it */
	report->outblob_len = answer_len;
	answer = NULL;
	answer_len = 0;
	if (report->outblob)
		return 0;
	return left < 0 ? -EINTR : -ETIMEDOUT;
}

static int report_new(struct tsm_report *report, void *data)
{
	if (report->desc.inblob_len != TSM_REPORT_INBLOB_MAX)
		return -EINVAL;
	if (mutex_lock_interruptible(&quote_lock))
		return -EINTR;
	int err = make_quote(report);

	mutex_unlock(&quote_lock);
	return err;
}

static bool report_visible(int n)
{
	return n == TSM_REPORT_GENERATION || n == TSM_REPORT_PROVIDER;
}

static bool report_bin_visible(int n)
{
	return n == TSM_REPORT_INBLOB || n == TSM_REPORT_OUTBLOB;
}

static const struct tsm_report_ops report_ops = {
	.name = "tdx_guest",
	.report_new = report_new,
	.report_attr_visible = report_visible,
	.report_bin_attr_visible = report_bin_visible,
};

ssize_t quote_request(struct file *file, char __user *to, size_t len, loff_t *pos)
{
	struct request copy;

	if (len < sizeof(copy))
		return -EINVAL;
	if (wait_event_interruptible(asked, READ_ONCE(unread)))
		return -ERESTARTSYS;
	scoped_guard(spinlock, &quote_state) {
		unread = false;
		copy = request;
	}
	return copy_to_user(to, &copy, sizeof(copy)) ? -EFAULT : sizeof(copy);
}

int quote_answer(u64 number, u8 *quote, size_t len)
{
	guard(spinlock)(&quote_state);
	if (!waiting || number != le64_to_cpu(request.number) || answer)
		return -ESTALE;
	answer = quote;
	answer_len = len;
	complete(&answered);
	return 0;
}

int quote_start(void)
{
	return tsm_report_register(&report_ops, NULL);
}

void quote_end(void)
{
	tsm_report_unregister(&report_ops);
}
