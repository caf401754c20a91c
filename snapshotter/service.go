package snapshotter

import (
	"context"
	"slices"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"google.golang.org/protobuf/types/known/emptypb"
)

// service answers containerd's calls. The plugin that a call is for is in its
// field snapshotter, so that one server serves any number of scopes.
type service struct {
	snapshotsapi.UnimplementedSnapshotsServer
	door *Door
}

func (s service) of(plugin string) (*Snapshotter, error) { return NewSnapshotter(s.door.store, plugin) }

func (s service) Prepare(ctx context.Context, r *snapshotsapi.PrepareSnapshotRequest) (*snapshotsapi.PrepareSnapshotResponse, error) {
	sn, err := s.of(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	ms, err := sn.Prepare(ctx, r.Key, r.Parent, snapshots.WithLabels(r.Labels))
	return &snapshotsapi.PrepareSnapshotResponse{Mounts: mount.ToProto(ms)}, err
}

func (s service) View(ctx context.Context, r *snapshotsapi.ViewSnapshotRequest) (*snapshotsapi.ViewSnapshotResponse, error) {
	sn, err := s.of(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	ms, err := sn.View(ctx, r.Key, r.Parent, snapshots.WithLabels(r.Labels))
	return &snapshotsapi.ViewSnapshotResponse{Mounts: mount.ToProto(ms)}, err
}

func (s service) Mounts(ctx context.Context, r *snapshotsapi.MountsRequest) (*snapshotsapi.MountsResponse, error) {
	sn, err := s.of(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	ms, err := sn.Mounts(ctx, r.Key)
	return &snapshotsapi.MountsResponse{Mounts: mount.ToProto(ms)}, err
}

func (s service) Commit(ctx context.Context, r *snapshotsapi.CommitSnapshotRequest) (*emptypb.Empty, error) {
	sn, err := s.of(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, sn.Commit(ctx, r.Name, r.Key, snapshots.WithLabels(r.Labels), snapshots.WithParent(r.Parent))
}

func (s service) Remove(ctx context.Context, r *snapshotsapi.RemoveSnapshotRequest) (*emptypb.Empty, error) {
	sn, err := s.of(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, sn.Remove(ctx, r.Key)
}

func (s service) Stat(ctx context.Context, r *snapshotsapi.StatSnapshotRequest) (*snapshotsapi.StatSnapshotResponse, error) {
	sn, err := s.of(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	info, err := sn.Stat(ctx, r.Key)
	return &snapshotsapi.StatSnapshotResponse{Info: proxy.InfoToProto(info)}, err
}

func (s service) Update(ctx context.Context, r *snapshotsapi.UpdateSnapshotRequest) (*snapshotsapi.UpdateSnapshotResponse, error) {
	sn, err := s.of(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	wanted := snapshots.Info{Name: r.GetInfo().GetName(), Labels: r.GetInfo().GetLabels()}
	info, err := sn.Update(ctx, wanted, r.GetUpdateMask().GetPaths()...)
	return &snapshotsapi.UpdateSnapshotResponse{Info: proxy.InfoToProto(info)}, err
}

// listed is how many snapshots one message of List holds.
const listed = 100

func (s service) List(r *snapshotsapi.ListSnapshotsRequest, out snapshotsapi.Snapshots_ListServer) error {
	sn, err := s.of(r.Snapshotter)
	if err != nil {
		return err
	}
	var all []*snapshotsapi.Info
	err = sn.Walk(out.Context(), func(_ context.Context, info snapshots.Info) error {
		all = append(all, proxy.InfoToProto(info))
		return nil
	}, r.Filters...)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(all, listed) {
		if err := out.Send(&snapshotsapi.ListSnapshotsResponse{Info: some}); err != nil {
			return err
		}
	}
	return nil
}

func (s service) Usage(ctx context.Context, r *snapshotsapi.UsageRequest) (*snapshotsapi.UsageResponse, error) {
	sn, err := s.of(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	u, err := sn.Usage(ctx, r.Key)
	return proxy.UsageToProto(u), err
}

func (s service) Cleanup(ctx context.Context, r *snapshotsapi.CleanupRequest) (*emptypb.Empty, error) {
	sn, err := s.of(r.Snapshotter)
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, sn.Cleanup(ctx)
}
