/* deploy_blob.S - the files of packaging/ that `slm deploy` prints, in read-only memory. cmd_deploy.c
 * declares these symbols. */

    .section .rodata
.macro embed name, file
    .balign 16
    .globl deploy_\name
    .hidden deploy_\name
    .globl deploy_\name\()_end
    .hidden deploy_\name\()_end
deploy_\name:
    .incbin "packaging/\file"
deploy_\name\()_end:
    .byte 0
.endm

    embed service, slm.service
    embed container, Containerfile

#if defined(__linux__) && defined(__ELF__)
    .section .note.GNU-stack, "", %progbits
#endif
