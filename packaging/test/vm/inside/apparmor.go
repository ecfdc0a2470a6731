package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	packagedProfile = "/usr/share/cima/usr.sbin.cimad"
	loadedProfile   = "/etc/apparmor.d/usr.sbin.cimad"
)

// confined gets evidence from the daemon under the packaged AppArmor profile,
// in containers under their engines' own profiles. Neither may be denied
// anything.
func confined(ctx context.Context, w *world) (err error) {
	if on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || on[0] != 'Y' {
		return fmt.Errorf("AppArmor must be on: %q, %v", on, err)
	}
	profile, err := os.ReadFile(packagedProfile)
	if err != nil {
		return err
	}
	if err := os.WriteFile(loadedProfile, profile, 0o644); err != nil {
		return err
	}
	defer func() {
		_, unloaded := command(ctx, "apparmor_parser", "--remove", loadedProfile)
		err = errors.Join(err, unloaded, os.Remove(loadedProfile), restartWith(ctx, "rootless.conf"))
	}()
	if _, err := command(ctx, "apparmor_parser", "--replace", "--skip-cache", loadedProfile); err != nil {
		return err
	}
	// The profile forbids this access: it shows that denials are logged.
	if _, err := command(ctx, "aa-exec", "-p", "cimad", "--", "/bin/cat", "/etc/shadow"); err == nil {
		return errors.New("under the profile /etc/shadow can be read")
	}
	before, err := denials(ctx)
	for range 20 { // the journal needs a moment
		if err != nil || len(before) > 0 {
			break
		}
		time.Sleep(500 * time.Millisecond)
		before, err = denials(ctx)
	}
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return errors.New("the kernel's log must hold the denial")
	}
	time.Sleep(time.Second) // for the other denials
	if before, err = denials(ctx); err != nil {
		return err
	}
	if err := restartWith(ctx, "rootless.conf"); err != nil {
		return err
	}
	label, err := os.ReadFile("/proc/" + property(ctx, "cimad.service", "MainPID") + "/attr/current")
	if err != nil || strings.TrimSpace(string(label)) != "cimad (enforce)" {
		return fmt.Errorf("cimad runs as %q: %v", label, err)
	}
	for _, e := range []engine{dockerd, rootful, alices} {
		if _, proved := e.prove(ctx, w); proved != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", e.name, proved))
		}
	}
	denied, unread := denials(ctx)
	if len(denied) > len(before) {
		w.keep("apparmor.txt", []byte(strings.Join(denied[len(before):], "\n")))
		err = errors.Join(err, fmt.Errorf("%d denials, the first is %s", len(denied)-len(before), denied[len(before)]))
	}
	return errors.Join(err, unread)
}

// denials are the kernel's lines about accesses that AppArmor denied to cimad,
// or to others that met cimad.
func denials(ctx context.Context) (lines []string, err error) {
	out, err := command(ctx, "journalctl", "-k", "--no-pager", "-o", "cat")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, `apparmor="DENIED"`) && strings.Contains(line, "cima") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines, nil
}
