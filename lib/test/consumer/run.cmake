# SPDX-License-Identifier: MIT
# Installs the build in BUILD below WORK and builds the examples against it, with
# find_package and with pkg-config.
function(run)
    execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK}/build
    -DCMAKE_PREFIX_PATH=${WORK}/prefix -DEXAMPLES=${EXAMPLES}
    -DCMAKE_CXX_COMPILER=${CXX})
run(${CMAKE_COMMAND} --build ${WORK}/build)

file(GLOB_RECURSE pc ${WORK}/prefix/kevent.pc)
get_filename_component(pc_dir ${pc} DIRECTORY)
set(ENV{PKG_CONFIG_PATH} ${pc_dir})
find_program(PKG_CONFIG pkg-config REQUIRED)
execute_process(
    COMMAND ${PKG_CONFIG} --define-variable=prefix=${WORK}/prefix
            --cflags --libs kevent
    OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE
    COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags)
run(${CXX} -std=c++20 ${EXAMPLES}/hello.cpp -o ${WORK}/hello ${flags})
