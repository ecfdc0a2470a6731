#!/bin/sh
# Prints debian/copyright (DEP-5), made from rpc/cimactl/licenses: a stanza for
# the source, for what in it is others', and for each module in vendor/.
# packaging/debian/copyright is what it prints; a test compares them.
set -eu
cd "$(dirname "$0")/../rpc/cimactl/licenses"
export LC_ALL=C
tab=$(printf '\t')

# field: text as the lines that go on in a field
field() { sed -e 's/[[:space:]]*$//' -e 's/^$/./' -e 's/^/ /'; }

# lines A; B: one in a line, the first behind the field's name
lines() { printf '%s\n' "$1" | sed -e 's/; /\n           /g'; }

cat <<'EOF'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: CIMA
Upstream-Contact: The CIMA authors <maintainers@cima-project.github.io>
Source: https://github.com/cima-project/cima
Comment: packaging/copyright.sh makes this file from
 rpc/cimactl/licenses/modules.tsv and the texts beside it. The programs are
 linked statically from the modules below, and from Go's own library and
 runtime: Copyright 2009 The Go Authors, BSD-3-clause with the text of
 golang.org/x/sys. In each package, the file NOTICE has the whole texts of what
 is linked there, and the notices that Apache-2.0 wants to go with it.

Files: *
Copyright: 2026 The CIMA authors
License: Apache-2.0

Files: packaging/test/vm/module/*
Copyright: 2026 The CIMA authors
License: GPL-2
Comment: A kernel module for tests in a virtual machine. It links the kernel's
 GPL-only symbols; nothing of it is in a package, and no program links it.

Files: hw/verify/dcap/intel_root.pem
Copyright: 2018 Intel Corporation
License: Intel-SGX-root
 The certificate of Intel's root key for SGX and TDX, as Intel publishes it for
 verifiers: https://certificates.trustedservices.intel.com/ (IntelSGXRootCA.der).
 It states a public key, a name and dates, which are facts and no work of
 authorship, so that no licence is needed to copy it. It can't be changed: its
 signature would be wrong.

Files: hw/verify/snp/amd/*
Copyright: 2020-2024 Advanced Micro Devices, Inc.
License: AMD-SEV-certificates
 The certificates of AMD's root and intermediate keys for SEV-SNP, as AMD gives
 them to verifiers: https://kdsintf.amd.com/{vcek,vlek}/v1/{Milan,Genoa,Turin}/cert_chain.
 They were taken from google/go-sev-guest v0.15.0, which has them from there. They
 state public keys, names and dates, which are facts and no work of authorship, so
 that no licence is needed to copy them. They can't be changed: their signatures
 would be wrong.

EOF
tail -n +3 modules.tsv | while IFS=$tab read -r module license programs copyright; do
	echo "Files: vendor/$module/*"
	printf 'Copyright: '
	lines "$copyright"
	case $license in
	Apache-2.0) echo 'License: Apache-2.0' ;;
	MIT) echo 'License: Expat' ;;
	BSD-3-Clause) echo 'License: BSD-3-clause' ;;
	'MIT AND Apache-2.0') echo 'License: Expat and Apache-2.0' ;;
	*) echo "copyright.sh: $module: no Debian name for the licence $license" >&2 && exit 1 ;;
	esac
	if [ "$license" != Apache-2.0 ]; then
		for file in "texts/$module"/*; do
			[ ! -f "$file" ] || [ "${file##*/}" = NOTICE ] || field <"$file" | sed -e '/./,$!d'
		done
	fi
	if [ "$programs" = tests ]; then
		echo 'Comment: Only tests use it; no program links it.'
	elif [ -f "texts/$module/NOTICE" ]; then
		echo 'Comment: NOTICE:' && field <"texts/$module/NOTICE"
	fi
	echo
done
cat <<'EOF'
License: Apache-2.0
 On Debian systems, the full text of the Apache License version 2.0 is in
 /usr/share/common-licenses/Apache-2.0.

License: GPL-2
 This program is free software; you can redistribute it and/or modify it under
 the terms of the GNU General Public License, version 2, as published by the
 Free Software Foundation.
 .
 On Debian systems, its full text is in /usr/share/common-licenses/GPL-2.
EOF
