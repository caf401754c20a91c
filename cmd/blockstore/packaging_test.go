package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const unitDir = "../../packaging/systemd"

// unit reads a unit's settings, without its comments.
func unit(t *testing.T, name string) string {
	raw, err := os.ReadFile(filepath.Join(unitDir, name))
	require.NoError(t, err)
	return regexp.MustCompile(`(?m)^[#;].*\n`).ReplaceAllString(string(raw), "")
}

// TestUnitsVerify has systemd read the units. The programs that they start must
// exist for that: the test's own takes their place.
func TestUnitsVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze: install systemd")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	units := []string{"blockstore.service"}
	for _, d := range doors() {
		units = append(units, "blockstore-"+d.name+".socket")
	}
	for _, name := range units {
		text := strings.ReplaceAll(unit(t, name), "/usr/local/bin/blockstore", self)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	for _, name := range units {
		cmd := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", filepath.Join(dir, name))
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Empty(t, string(out))
	}
}

// TestUnitsShareTheMachinesMounts: systemd.exec(5) and systemd.service(5) name
// the settings that give a service a mount namespace of its own.
func TestUnitsShareTheMachinesMounts(t *testing.T) {
	own := regexp.MustCompile(`(?m)^(Private\w+|Protect\w+|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|ExecPaths|NoExecPaths|` +
		`Bind\w*Paths|TemporaryFileSystem|RootDirectory|RootImage|RootHash|RootEphemeral|Mount\w+|ExtensionImages|ExtensionDirectories|` +
		`DynamicUser|JoinsNamespaceOf|LogNamespace|(State|Cache|Logs|Runtime|Configuration)Directory|LoadCredential\w*|SetCredential\w*|` +
		`ImportCredential|NetworkNamespacePath|IPCNamespacePath|RestrictNamespaces|User|Group)=`)
	require.Regexp(t, own, "PrivateTmp=yes")
	require.NotRegexp(t, own, unit(t, "blockstore.service"))
}

// TestUnitsFitTheProgram: what the units name is what the program takes.
func TestUnitsFitTheProgram(t *testing.T) {
	service := unit(t, "blockstore.service")
	command := regexp.MustCompile(`(?m)^ExecStart=\S+/blockstore (.*)$`).FindStringSubmatch(service)
	require.NotNil(t, command)
	cmd, args, err := newApp(os.Stdin, os.Stdout, os.Stderr).rootCommand().Find(strings.Fields(command[1]))
	require.NoError(t, err)
	require.Equal(t, "serve", cmd.Name())
	require.NoError(t, cmd.ParseFlags(args))
	require.Contains(t, service, "\nKillMode=process\n")
	require.Contains(t, service, "\nType=notify\n")
	require.NotContains(t, service, "\nSockets=", "it would start the sockets that are not enabled")
	before := regexp.MustCompile(`(?m)^Before=(.*)$`).FindStringSubmatch(service)
	require.NotNil(t, before)
	for _, d := range doors() {
		name := "blockstore-" + d.name + ".socket"
		socket := unit(t, name)
		require.Contains(t, socket, "\nListenStream="+d.socket+"\n")
		require.Contains(t, socket, "\nFileDescriptorName="+d.name+"\n")
		require.Contains(t, socket, "\nSocketMode=0600\n")
		require.Contains(t, socket, "\nBefore="+d.name+".service\n")
		require.Contains(t, socket, "\nService=blockstore.service\n")
		require.Contains(t, strings.Fields(before[1]), d.name+".service")
	}
}
