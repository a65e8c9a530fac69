/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The functions of GL and EGL that QEMU uses. It calls them through pointers, which libepoxy would
 * set; here they are the functions of gl.c.
 */
	.data
	.balign	8
to_nothing:	.quad	nothing
to_status:	.quad	get_status
to_config:	.quad	choose_config

	.macro	pointer name, value
	.globl	epoxy_\name
	.set	epoxy_\name, \value
	.endm

	pointer	eglChooseConfig, to_config
	pointer	glGetProgramiv, to_status
	pointer	glGetShaderiv, to_status

	.irp name, eglBindAPI, eglCreateContext, eglCreateImageKHR, eglCreateSyncKHR, \
		eglCreateWindowSurface, eglDestroyContext, eglDestroyImageKHR, \
		eglDestroySyncKHR, eglDupNativeFenceFDANDROID, eglExportDMABUFImageMESA, \
		eglExportDMABUFImageQueryMESA, eglGetCurrentContext, eglGetDisplay, \
		eglGetError, eglGetPlatformDisplayEXT, eglInitialize, eglMakeCurrent, \
		glAttachShader, glBindBuffer, glBindFramebuffer, glBindTexture, \
		glBindVertexArray, glBlendFunc, glBlitFramebuffer, glBufferData, glClear, \
		glClearColor, glCompileShader, glCreateMemoryObjectsEXT, glCreateProgram, \
		glCreateShader, glDeleteFramebuffers, glDeleteMemoryObjectsEXT, \
		glDeleteProgram, glDeleteShader, glDeleteTextures, glDisable, glDrawArrays, \
		glEGLImageTargetTexture2DOES, glEnable, glEnableVertexAttribArray, \
		glFramebufferTexture2DEXT, glGenBuffers, glGenFramebuffers, glGenTextures, \
		glGenVertexArrays, glGetAttribLocation, glGetError, glGetProgramInfoLog, \
		glGetShaderInfoLog, glImportMemoryFdEXT, glLinkProgram, glPixelStorei, \
		glReadBuffer, glReadPixels, glShaderSource, glTexImage2D, glTexParameteri, \
		glTexStorageMem2DEXT, glTexSubImage2D, glUseProgram, glVertexAttribPointer, \
		glViewport
	pointer	\name, to_nothing
	.endr

	.section .note.GNU-stack, "", %progbits
