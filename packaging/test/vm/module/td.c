// SPDX-License-Identifier: GPL-2.0
/*
 * A simulated TD behind the kernel's own TDX guest interfaces, for tests.
 *
 * It shows what drivers/virt/coco/tdx-guest shows, by the same kernel code:
 * the TSM report provider "tdx_guest" (configfs), the measurement registers
 * under the misc device "tdx_guest" (sysfs), and the TDREPORT ioctl. What the
 * TDX module and the host would do is done here, and quotes are made by a
 * helper in user space (packaging/test/vm/signer) that talks to /dev/cima_test_td.
 * Nothing here is trusted by any verifier. It is never packaged.
 */
#include <linux/delay.h>
#include <linux/miscdevice.h>
#include <linux/slab.h>
#include <linux/tsm-mr.h>
#include <linux/uaccess.h>
#include <uapi/linux/tdx-guest.h>

#include "td.h"

#define QUOTE_MAX SZ_64K

/* Offsets in a TDREPORT (Intel TDX Module ABI, TDREPORT_STRUCT). */
#define REPORT_DATA 128
#define REPORT_MRTD 528
#define REPORT_RTMR 720

KNOB(extend_fails, "so many extends fail with extend_errno");
KNOB(extend_errno, "a positive errno");
KNOB(extend_after, "not 0: the extend that fails does happen");
KNOB(extend_delay_ms, "how long each extend waits before and after it happens");
KNOB(report_fails, "so many TDREPORTs fail with EIO");

DEFINE_MUTEX(td_lock);
u8 live[MR_COUNT][MR_SIZE];

/* Counts down a knob; true if it struck. */
bool strikes(int *knob)
{
	guard(mutex)(&td_lock);
	if (*knob <= 0)
		return false;
	--*knob;
	return true;
}

static void extend(unsigned int mr, const u8 *digest)
{
	struct sha384_ctx ctx;

	guard(mutex)(&td_lock);
	sha384_init(&ctx);
	sha384_update(&ctx, live[mr], MR_SIZE);
	sha384_update(&ctx, digest, MR_SIZE);
	sha384_final(&ctx, live[mr]);
}

/* Measurement registers, through the kernel's tsm-mr. */

static u8 shown[MR_COUNT][MR_SIZE];

static const struct tsm_measurement_register registers[] = {
	{ .mr_value = shown[0], TSM_MR_(mrtd, SHA384) },
	{ .mr_value = shown[1], TSM_MR_(rtmr0, SHA384) | TSM_MR_F_RTMR },
	{ .mr_value = shown[2], TSM_MR_(rtmr1, SHA384) | TSM_MR_F_RTMR },
	{ .mr_value = shown[3], TSM_MR_(rtmr2, SHA384) | TSM_MR_F_RTMR },
	{ .mr_value = shown[4], TSM_MR_(rtmr3, SHA384) | TSM_MR_F_RTMR },
};

static int mr_refresh(const struct tsm_measurements *tm)
{
	guard(mutex)(&td_lock);
	memcpy(shown, live, sizeof(shown));
	return 0;
}

static int mr_write(const struct tsm_measurements *tm,
		    const struct tsm_measurement_register *mr, const u8 *data)
{
	bool fails = strikes(&extend_fails);

	if (extend_delay_ms && msleep_interruptible(extend_delay_ms))
		return -EINTR;
	if (!fails || extend_after)
		extend(mr - registers, data);
	if (extend_delay_ms)
		msleep(extend_delay_ms);
	return fails ? -extend_errno : 0;
}

static const struct tsm_measurements measurements = {
	.mrs = registers,
	.nr_mrs = ARRAY_SIZE(registers),
	.refresh = mr_refresh,
	.write = mr_write,
};

/* The TDREPORT ioctl. */

static long td_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct tdx_report_req __user *user = (void __user *)arg;
	struct tdx_report_req *req __free(kfree) = NULL;

	if (cmd != TDX_CMD_GET_REPORT0)
		return -ENOTTY;
	if (strikes(&report_fails))
		return -EIO;
	req = kzalloc(sizeof(*req), GFP_KERNEL);
	if (!req)
		return -ENOMEM;
	if (copy_from_user(req->reportdata, user->reportdata, TDX_REPORTDATA_LEN))
		return -EFAULT;
	memcpy(req->tdreport + REPORT_DATA, req->reportdata, TDX_REPORTDATA_LEN);
	scoped_guard(mutex, &td_lock) {
		memcpy(req->tdreport + REPORT_MRTD, live[MRTD], MR_SIZE);
		memcpy(req->tdreport + REPORT_RTMR, live[RTMR(0)], 4 * MR_SIZE);
	}
	if (copy_to_user(user->tdreport, req->tdreport, TDX_REPORT_LEN))
		return -EFAULT;
	return 0;
}

static const struct file_operations td_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = td_ioctl,
};

static const struct attribute_group *td_groups[2];

static struct miscdevice td_device = {
	.name = "tdx_guest",
	.minor = MISC_DYNAMIC_MINOR,
	.fops = &td_fops,
	.groups = td_groups,
};

/* The helper's device. */

/* What the helper writes begins with one of these, then a number; all are little-endian u64. */
enum { SET_REGISTERS, ANSWER, EXTEND };

static ssize_t helper_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	u8 *body __free(kvfree) = NULL;
	__le64 head[2];
	size_t size;
	int err;

	if (len < sizeof(head) || len > QUOTE_MAX)
		return -EINVAL;
	if (copy_from_user(head, from, sizeof(head)))
		return -EFAULT;
	size = len - sizeof(head);
	body = kvmalloc(size + 1, GFP_KERNEL);
	if (!body)
		return -ENOMEM;
	if (copy_from_user(body, from + sizeof(head), size))
		return -EFAULT;
	switch (le64_to_cpu(head[0])) {
	case SET_REGISTERS: /* the TD boots */
		if (size != sizeof(live))
			return -EINVAL;
		scoped_guard(mutex, &td_lock)
			memcpy(live, body, sizeof(live));
		return len;
	case ANSWER:
		err = quote_answer(le64_to_cpu(head[1]), body, size);
		if (err)
			return err;
		retain_and_null_ptr(body);
		return len;
	case EXTEND: /* as other code in the kernel would: tsm-mr does not notice */
		if (size != MR_SIZE || le64_to_cpu(head[1]) > 3)
			return -EINVAL;
		extend(RTMR(le64_to_cpu(head[1])), body);
		return len;
	}
	return -EINVAL;
}

static const struct file_operations helper_fops = {
	.owner = THIS_MODULE,
	.read = quote_request,
	.write = helper_write,
};

static struct miscdevice helper_device = {
	.name = "cima_test_td",
	.minor = MISC_DYNAMIC_MINOR,
	.fops = &helper_fops,
};

static int __init td_start(void)
{
	int err;

	td_groups[0] = tsm_mr_create_attribute_group(&measurements);
	if (IS_ERR(td_groups[0]))
		return PTR_ERR(td_groups[0]);
	err = misc_register(&td_device);
	if (err)
		goto group;
	err = misc_register(&helper_device);
	if (err)
		goto device;
	err = quote_start();
	if (err)
		goto helper;
	return 0;
helper:
	misc_deregister(&helper_device);
device:
	misc_deregister(&td_device);
group:
	tsm_mr_free_attribute_group(td_groups[0]);
	return err;
}
module_init(td_start);

static void __exit td_end(void)
{
	quote_end();
	misc_deregister(&helper_device);
	misc_deregister(&td_device);
	tsm_mr_free_attribute_group(td_groups[0]);
}
module_exit(td_end);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A simulated TD behind the kernel's TDX guest interfaces: NOT HARDWARE");
