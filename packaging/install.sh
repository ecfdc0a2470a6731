#!/bin/sh
# Installs what was built: install.sh cimad|cimactl|cimad-sim|python|all. For packagers:
# DESTDIR goes in front of every path, PREFIX is /usr, MAN the pages' folder, COMPLETIONS
# that of completions. Nothing that was built is run: it may be for another machine.
set -eu
cd "$(dirname "$0")/.."
prefix=${PREFIX:-/usr}
share=${DESTDIR:-}$prefix/share
man=${MAN:-.cache/man}
completions=${COMPLETIONS:-.cache/completions}

# put MODE DIR FILE...: files under their own names
put() {
	mode=$1 dir=$2
	shift 2
	install -d "$dir"
	install -p -m "$mode" "$@" "$dir"
}

# notices PROGRAM: the licences of what is linked into it
notices() {
	install -d "$share/doc/$1"
	packaging/licenses.sh "$1" >"$share/doc/$1/NOTICE"
	chmod 644 "$share/doc/$1/NOTICE"
}

page() {
	for name; do
		section=$share/man/man${name##*.}
		install -d "$section"
		# -n: no name and no time in it, so that two builds are equal
		gzip -9n <"$man/$name" >"$section/$name.gz"
	done
}

cimad() {
	units=${DESTDIR:-}$prefix/lib/systemd/system
	put 755 "${DESTDIR:-}$prefix/sbin" bin/cimad
	put 755 "${DESTDIR:-}$prefix/libexec/cima" bin/cima-imds
	notices cimad
	put 644 "$units" systemd/cima.slice systemd/cimad.service systemd/cimad.socket systemd/cimad-admin.socket systemd/cimad-lookup.socket systemd/cima-imds.socket systemd/cima-imds.service systemd/cima-metrics.service systemd/cima-metrics.timer
	install -D -p -m 644 systemd/cima.tmpfiles.conf "${DESTDIR:-}$prefix/lib/tmpfiles.d/cima.conf"
	install -D -p -m 644 systemd/cima.sysctl.conf "${DESTDIR:-}$prefix/lib/sysctl.d/10-cima.conf"
	install -D -p -m 644 systemd/cima.sysusers.conf "${DESTDIR:-}$prefix/lib/sysusers.d/cima.conf"
	put 644 "${DESTDIR:-}$prefix/lib/systemd/system-preset" systemd/85-cima.preset
	put 644 "$share/cima" systemd/no-gate.conf systemd/no-homes.conf systemd/rootless.conf systemd/qgs.conf systemd/systemd-252.conf
	put 644 "${DESTDIR:-}/etc/cima" packaging/cimad.toml
	put 644 "${DESTDIR:-}/etc/cdi" packaging/cdi/cima.yaml
	put 644 "${DESTDIR:-}/etc/apparmor.d/abstractions" packaging/apparmor/cima
	put 644 "$share/cima" packaging/apparmor/usr.sbin.cimad
	put 644 "$share/selinux/packages" packaging/selinux/cima.cil
	examples=$share/doc/cimad/examples chart=packaging/kubernetes/chart
	put 644 "$examples" packaging/compose/compose.yaml packaging/quadlet/cima-example.container packaging/kubernetes/*.yaml
	put 644 "$examples/chart" $chart/Chart.yaml $chart/values.yaml $chart/values.schema.json
	put 644 "$examples/chart/templates" $chart/templates/*.*
	put 644 "$examples/chart/templates/tests" $chart/templates/tests/*.yaml
	page cimad.8 cimad.toml.5 cima-api.7 cima-from-05.7
}

cimactl() {
	put 755 "${DESTDIR:-}$prefix/bin" bin/cimactl
	notices cimactl
	# A relying party may have this package alone.
	page cimactl.1 cima-policy.5 cima-access.7 cima-evidence.7 cima-relying-party.7 cima-reference-values.7 cima-platforms.7
	put 644 "$share/bash-completion/completions" "$completions/cimactl"
	put 644 "$share/zsh/site-functions" "$completions/_cimactl"
	put 644 "$share/fish/vendor_completions.d" "$completions/cimactl.fish"
}

cimad_sim() {
	put 755 "${DESTDIR:-}$prefix/bin" bin/cimad-sim
	notices cimad-sim
	# The page of both daemons: this package may be there alone.
	install -d "$share/man/man8"
	gzip -9n <"$man/cimad.8" >"$share/man/man8/cimad-sim.8.gz"
	chmod 644 "$share/man/man8/cimad-sim.8.gz"
}

# For the system's Python, as Debian places it; others set PYTHON_SITE. python
# isn't part of "all": containers install the wheel.
python() {
	from=rpc/python
	site=${DESTDIR:-}${PYTHON_SITE:-$prefix/lib/python3/dist-packages}
	field() { sed -n "s/^$1 = \"\(.*\)\"$/\1/p" $from/pyproject.toml; }
	info=$site/cima_client-$(field version).dist-info
	put 644 "$site/cima_client" $from/cima_client/*.py $from/cima_client/py.typed
	install -d "$info"
	{
		printf 'Metadata-Version: 2.1\nName: %s\nVersion: %s\n' "$(field name)" "$(field version)"
		printf 'Summary: %s\nLicense: %s\nRequires-Python: %s\n' "$(field description)" "$(field license)" "$(field requires-python)"
	} >"$info/METADATA"
	chmod 644 "$info/METADATA"
}

case ${1:-all} in
cimad) cimad ;;
cimactl) cimactl ;;
cimad-sim) cimad_sim ;;
python | python3-cima-client) python ;;
all) cimad && cimactl && cimad_sim ;;
*)
	echo "install.sh: unknown part $1: must be cimad, cimactl, cimad-sim, python or all" >&2
	exit 2
	;;
esac
