package image

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"blockstore.dev/blockstore/snapshot"
)

// applyChanges sets the execution parameters of a config (OCI image-spec
// config.md, "config") by Dockerfile instructions.
func applyChanges(c object, changes []string) error {
	if len(changes) == 0 {
		return nil
	}
	exec := object{}
	if raw := c["config"]; len(raw) > 0 && string(raw) != "null" {
		if err := json.Unmarshal(raw, &exec); err != nil {
			return fmt.Errorf("reading the parent's config: %w", err)
		}
	}
	for _, change := range changes {
		verb, rest, _ := strings.Cut(strings.TrimSpace(change), " ")
		if err := applyChange(exec, strings.ToUpper(verb), strings.TrimSpace(rest)); err != nil {
			return fmt.Errorf("%w change %q: %w", snapshot.ErrInvalid, change, err)
		}
	}
	return c.set("config", exec)
}

func applyChange(exec object, verb, rest string) error {
	if rest == "" && verb != "CMD" && verb != "ENTRYPOINT" {
		return fmt.Errorf("%s needs a value", verb)
	}
	switch verb {
	case "CMD":
		return setCommand(exec, "Cmd", rest)
	case "ENTRYPOINT":
		return setCommand(exec, "Entrypoint", rest)
	case "ENV":
		return setEnv(exec, rest)
	case "LABEL":
		return setLabels(exec, rest)
	case "EXPOSE":
		return addPorts(exec, rest)
	case "VOLUME":
		return addVolumes(exec, rest)
	case "USER":
		return exec.set("User", rest)
	case "STOPSIGNAL":
		return exec.set("StopSignal", rest)
	case "WORKDIR":
		var now string
		_ = json.Unmarshal(exec["WorkingDir"], &now) // "" where there is none
		if !path.IsAbs(rest) {
			rest = path.Join("/", now, rest)
		}
		return exec.set("WorkingDir", path.Clean(rest))
	}
	return fmt.Errorf("%q is not one of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR", verb)
}

// setCommand takes a JSON list of words, or a line for the shell.
func setCommand(exec object, key, rest string) error {
	var list []string
	if json.Unmarshal([]byte(rest), &list) == nil {
		return exec.set(key, list)
	}
	if rest == "" {
		delete(exec, key)
		return nil
	}
	return exec.set(key, []string{"/bin/sh", "-c", rest})
}

// pairs splits key=value words, with quotes and backslashes as in a Dockerfile;
// "KEY some words" is one pair.
func pairs(rest string) ([][2]string, error) {
	first, value, spaced := strings.Cut(rest, " ")
	if spaced && !strings.Contains(first, "=") {
		return [][2]string{{first, strings.TrimSpace(value)}}, nil
	}
	list, err := words(rest)
	if err != nil {
		return nil, err
	}
	var all [][2]string
	for _, w := range list {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not key=value", w)
		}
		all = append(all, [2]string{key, value})
	}
	return all, nil
}

// words splits a line at spaces that are not quoted.
func words(line string) ([]string, error) {
	var list []string
	var word strings.Builder
	var quote rune
	in, escaped := false, false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			in, escaped = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			in, quote = true, r
		case quote == 0 && (r == ' ' || r == '\t'):
			if in {
				list = append(list, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if in {
		list = append(list, word.String())
	}
	return list, nil
}

func setEnv(exec object, rest string) error {
	all, err := pairs(rest)
	if err != nil {
		return err
	}
	var env []string
	if raw := exec["Env"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &env); err != nil {
			return err
		}
	}
	for _, p := range all {
		set := false
		for i, e := range env {
			if strings.HasPrefix(e, p[0]+"=") {
				env[i], set = p[0]+"="+p[1], true
			}
		}
		if !set {
			env = append(env, p[0]+"="+p[1])
		}
	}
	return exec.set("Env", env)
}

func setLabels(exec object, rest string) error {
	all, err := pairs(rest)
	if err != nil {
		return err
	}
	labels := map[string]string{}
	if raw := exec["Labels"]; len(raw) > 0 && string(raw) != "null" {
		if err := json.Unmarshal(raw, &labels); err != nil {
			return err
		}
	}
	for _, p := range all {
		labels[p[0]] = p[1]
	}
	return exec.set("Labels", labels)
}

// addTo adds keys to an object of empty objects, as ports and volumes are kept.
func addTo(exec object, field string, keys []string) error {
	all := map[string]struct{}{}
	if raw := exec[field]; len(raw) > 0 && string(raw) != "null" {
		if err := json.Unmarshal(raw, &all); err != nil {
			return err
		}
	}
	for _, k := range keys {
		all[k] = struct{}{}
	}
	return exec.set(field, all)
}

func addPorts(exec object, rest string) error {
	ports := strings.Fields(rest)
	for i, p := range ports {
		number, protocol, ok := strings.Cut(strings.ToLower(p), "/")
		if !ok {
			protocol = "tcp"
		}
		var n uint16
		if err := json.Unmarshal([]byte(number), &n); err != nil || n == 0 {
			return fmt.Errorf("%q is not a port", p)
		}
		if protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
			return fmt.Errorf("%q is not tcp, udp or sctp", protocol)
		}
		ports[i] = number + "/" + protocol
	}
	return addTo(exec, "ExposedPorts", ports)
}

func addVolumes(exec object, rest string) error {
	var list []string
	if json.Unmarshal([]byte(rest), &list) != nil {
		list = strings.Fields(rest)
	}
	return addTo(exec, "Volumes", list)
}
