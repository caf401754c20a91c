package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/vagrant/machine"
)

// servicePath is where this program lies in the machine.
const servicePath = "/run/bstest-init"

// serviceVar tells the program that it is systemd's service, and where its
// work directory is.
const serviceVar = "bstest_service"

// unitDir is where systemd looks for units that last until power off.
const unitDir = "/run/systemd/system"

// startUdev starts udevd, has it see what is there already, and waits for it.
func startUdev() error {
	for _, args := range [][]string{
		{"/usr/lib/systemd/systemd-udevd", "--daemon"},
		{"udevadm", "trigger", "--action=add"},
		{"udevadm", "settle", "--timeout=120"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("starting udev: %s: %w: %s", filepath.Base(args[0]), err, out)
		}
	}
	return nil
}

// startSystemd makes the command a service and becomes systemd.
func startSystemd() error {
	const unit = `[Unit]
Description=The test machine's command
After=multi-user.target

[Service]
Type=oneshot
Environment=` + serviceVar + `=` + workDir + `
ExecStart=` + servicePath + `
StandardOutput=journal+console
TimeoutStartSec=infinity
Delegate=yes
`
	wants := filepath.Join(unitDir, "multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(unitDir, "bstest.service"), []byte(unit), 0o644); err != nil {
		return err
	}
	if err := os.Symlink("../bstest.service", filepath.Join(wants, "bstest.service")); err != nil {
		return err
	}
	return unix.Exec("/sbin/init", []string{"/sbin/init", "--unit=multi-user.target"}, []string{"PATH=" + os.Getenv("PATH"), "TERM=dumb"})
}

// service runs the command below systemd and ends the machine.
func service(work string) {
	var own ownConfig
	config, err := machine.ReadConfig(work, &own)
	status := machine.ExitMachine
	if err == nil {
		status, err = runCommand(config)
	}
	machine.PowerOff(work, status, err)
}
