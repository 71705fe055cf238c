package main

const (
	architecture     = 0xC000003E
	seccompNumber    = 317
	socketpairNumber = 53
	cloneNumber      = 56
)

var denied = []uint32{
	// the network
	41,  // socket
	42,  // connect
	49,  // bind
	50,  // listen
	43,  // accept
	288, // accept4
	// mounts, roots and namespaces
	165, // mount
	166, // umount2
	155, // pivot_root
	161, // chroot
	272, // unshare
	308, // setns
	428, // open_tree
	429, // move_mount
	430, // fsopen
	431, // fsconfig
	432, // fsmount
	433, // fspick
	442, // mount_setattr
	467, // open_tree_attr
	179, // quotactl
	443, // quotactl_fd
	// other processes
	101, // ptrace
	310, // process_vm_readv
	311, // process_vm_writev
	440, // process_madvise
	438, // pidfd_getfd
	312, // kcmp
	279, // move_pages
	256, // migrate_pages
	// the kernel itself
	321, // bpf
	298, // perf_event_open
	323, // userfaultfd
	425, // io_uring_setup
	426, // io_uring_enter
	427, // io_uring_register
	250, // keyctl
	248, // add_key
	249, // request_key
	246, // kexec_load
	320, // kexec_file_load
	175, // init_module
	313, // finit_module
	176, // delete_module
	103, // syslog
	163, // acct
	300, // fanotify_init
	304, // open_by_handle_at
	303, // name_to_handle_at
	447, // memfd_secret
	154, // modify_ldt
	172, // iopl
	173, // ioperm
	135, // personality
	180, // nfsservctl
	212, // lookup_dcookie
	// the machine
	169, // reboot
	167, // swapon
	168, // swapoff
	164, // settimeofday
	227, // clock_settime
	305, // clock_adjtime
	159, // adjtimex
	170, // sethostname
	171, // setdomainname
	153, // vhangup
	// the IPC namespace, which the containers of a pod share
	29,  // shmget
	30,  // shmat
	31,  // shmctl
	68,  // msgget
	69,  // msgsnd
	70,  // msgrcv
	64,  // semget
	65,  // semop
	220, // semtimedop
	66,  // semctl
	240, // mq_open
}
