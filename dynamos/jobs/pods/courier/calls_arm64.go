package main

const (
	architecture     = 0xC00000B7
	seccompNumber    = 277
	socketpairNumber = 199
	cloneNumber      = 220
)

var denied = []uint32{
	// the network
	198, // socket
	203, // connect
	200, // bind
	201, // listen
	202, // accept
	242, // accept4
	// mounts, roots and namespaces
	40,  // mount
	39,  // umount2
	41,  // pivot_root
	51,  // chroot
	97,  // unshare
	268, // setns
	428, // open_tree
	429, // move_mount
	430, // fsopen
	431, // fsconfig
	432, // fsmount
	433, // fspick
	442, // mount_setattr
	467, // open_tree_attr
	60,  // quotactl
	443, // quotactl_fd
	// other processes
	117, // ptrace
	270, // process_vm_readv
	271, // process_vm_writev
	440, // process_madvise
	438, // pidfd_getfd
	272, // kcmp
	239, // move_pages
	238, // migrate_pages
	// the kernel itself
	280, // bpf
	241, // perf_event_open
	282, // userfaultfd
	425, // io_uring_setup
	426, // io_uring_enter
	427, // io_uring_register
	219, // keyctl
	217, // add_key
	218, // request_key
	104, // kexec_load
	294, // kexec_file_load
	105, // init_module
	273, // finit_module
	106, // delete_module
	116, // syslog
	89,  // acct
	262, // fanotify_init
	265, // open_by_handle_at
	264, // name_to_handle_at
	447, // memfd_secret
	92,  // personality
	42,  // nfsservctl
	18,  // lookup_dcookie
	// the machine
	142, // reboot
	224, // swapon
	225, // swapoff
	170, // settimeofday
	112, // clock_settime
	266, // clock_adjtime
	171, // adjtimex
	161, // sethostname
	162, // setdomainname
	58,  // vhangup
	// the IPC namespace, which the containers of a pod share
	194, // shmget
	196, // shmat
	195, // shmctl
	186, // msgget
	189, // msgsnd
	188, // msgrcv
	190, // semget
	193, // semop
	192, // semtimedop
	191, // semctl
	180, // mq_open
}
